"""SDP offer/answer of the in-process SFU: parsing of clients' descriptions, generation of its own."""

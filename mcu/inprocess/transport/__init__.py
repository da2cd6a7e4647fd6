"""ICE, DTLS-SRTP, SCTP and data channels of one PeerConnection, on top of aiortc and aioice."""

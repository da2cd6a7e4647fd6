"""Compares the gateway with the incumbent, the Go signaling server, by playing the same conversations on both."""

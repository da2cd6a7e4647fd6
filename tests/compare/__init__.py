"""Compares the gateway with the Go signaling server by playing the same conversations on both."""

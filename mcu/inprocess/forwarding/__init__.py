"""RTP forwarding: received RTP streams, the tracks sent to subscribers, RTCP, and the rewriting between them."""

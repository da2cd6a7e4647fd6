"""Benchmarks: the gateway against a floor, the in-process SFU against Janus. No other code imports them."""

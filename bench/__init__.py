"""Side-by-side benchmarks: the gateway beside a floor, the in-process SFU beside Janus. Imported by nothing."""

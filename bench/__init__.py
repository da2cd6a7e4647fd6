"""Benchmarks: the gateway beside the incumbent and a floor, the in-process SFU beside Janus.

Only their tests import them.
"""

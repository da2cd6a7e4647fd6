"""Tests of the session description package; they need no event loop, no clock, and no IO except for fixtures."""

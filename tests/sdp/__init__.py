"""Tests of the session description package; they run without a loop, without time, without IO but fixtures."""

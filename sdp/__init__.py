"""Session descriptions as their lines: parse, look, edit a few of them, write all others back byte for byte.

Pure: no clock, no entropy, no IO, and nothing of ours outside this package.
"""

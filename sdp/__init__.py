"""Session descriptions as lists of lines: parse one, edit some lines, serialise all others byte for byte.

Pure: no clock, no entropy, no IO, and no import from the repository's other packages.
"""

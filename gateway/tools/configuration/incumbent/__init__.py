"""``portunus config import``: the configuration of the Go signaling server, ``server.conf``, as one of Portunus.

Source: docs/configuration.md, "From server.conf".
"""

"""``portunus config import``: the configuration of the Go signaling server, ``server.conf``, as one of Portunus.

Source: docs/migration.md, "From server.conf".
"""

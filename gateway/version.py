"""The one place that states versions.

``VERSION`` is ours (SemVer). Clients, Nextcloud and operators compare ``SERVER_VERSION``: the level of the protocol
that is served, then ours.
"""

VERSION = "0.1.0"
PROTOCOL_LEVEL = "2.1.1"
SERVER_VERSION = f"{PROTOCOL_LEVEL}-portunus.{VERSION}"
SERVER_HEADER = f"nextcloud-spreed-signaling/{SERVER_VERSION} portunus/{VERSION}"  # Server and User-Agent

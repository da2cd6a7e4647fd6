"""The versions of the gateway and of the protocol that it serves.

``VERSION`` is that of Portunus (SemVer). Clients, Nextcloud and operators compare ``SERVER_VERSION``: the protocol
level, followed by ``VERSION``.
"""

VERSION = "0.1.0"
PROTOCOL_LEVEL = "2.1.1"
SERVER_VERSION = f"{PROTOCOL_LEVEL}-portunus.{VERSION}"
SERVER_HEADER = f"nextcloud-spreed-signaling/{SERVER_VERSION} portunus/{VERSION}"  # Server and User-Agent

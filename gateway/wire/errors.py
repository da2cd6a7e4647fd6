"""The error codes that the gateway itself sends to clients.

Source: reference 16. Codes in Nextcloud's answers are forwarded unchanged and not listed here. ``code`` is part
of the protocol, the message is informative.
"""

from __future__ import annotations

from enum import Enum

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT


class Error(Struct, frozen=True, omit_defaults=True):
    """The ``error`` object of an error message."""

    code: str
    message: str
    details: Raw = ABSENT


class Code(Enum):
    """An error code with its standard message; the comment names the section that defines it."""

    INVALID_FORMAT = ("invalid_format", "Invalid data format.")  # (2.4)
    HELLO_EXPECTED = ("hello_expected", "Expected Hello request.")  # (2.4)
    INVALID_HELLO_VERSION = ("invalid_hello_version", "The hello version is not supported.")  # (3.1)
    INVALID_CLIENT_TYPE = ("invalid_client_type", "The client type is not supported.")  # (3.4)
    INVALID_BACKEND = ("invalid_backend", "The backend URL is not supported.")  # (3.2)
    AUTH_FAILED = ("auth_failed", "The user could not be authenticated.")  # (3.2)
    INVALID_TOKEN = ("invalid_token", "The passed token is invalid.")  # (3.3)
    TOKEN_NOT_VALID_YET = ("token_not_valid_yet", "The token is not valid yet.")  # (3.3)
    TOKEN_EXPIRED = ("token_expired", "The token is expired.")  # (3.3)
    FEDERATION_UNSUPPORTED = (
        "federation_unsupported",
        "The target server does not support federation.",
    )  # (3.3)
    FEDERATION_ERROR = ("federation_error", "Failed to create federation client.")  # (12.1)
    SESSION_LIMIT_EXCEEDED = ("session_limit_exceeded", "Too many sessions connected for this backend.")  # (3.5)
    SHUTDOWN_SCHEDULED = ("shutdown_scheduled", "This server is about to end; connect again.")  # (2.5)
    TOO_MANY_REQUESTS = ("too_many_requests", "Too many requests.")  # (14.1)
    LIMIT_EXCEEDED = ("limit_exceeded", "There are too many already.")  # docs/protocol.md, "Limits"
    NO_SUCH_SESSION = ("no_such_session", "The session to resume does not exist.")  # (2.8)
    INTERNAL_ERROR = ("internal_error", "An internal error occurred.")  # (3.2, 4.1)
    ALREADY_JOINED = ("already_joined", "Already joined this room.")  # (4.1)
    ROOM_JOIN_FAILED = ("room_join_failed", "Could not join the room.")  # (4.1)
    NOT_ALLOWED_TO_PUBLISH = ("not_allowed", "Not allowed to publish.")  # (8)
    NOT_ALLOWED_TO_SEND_CANDIDATE = ("not_allowed", "Not allowed to send candidate.")  # (8)
    NOT_ALLOWED_TO_SEND_OFFER = ("not_allowed", "Not allowed to send offer")  # (8)
    NOT_ALLOWED_TO_REQUEST_OFFER = ("not_allowed", "Not allowed to request offer.")  # (9.3)
    NOT_IN_ROOM = ("not_in_room", "No room joined yet.")  # (10)
    NOT_ALLOWED_TO_UPDATE = ("not_allowed", "Not allowed to update transient data.")  # (10)
    NOT_ALLOWED_TO_UPDATE_ENTRY = ("not_allowed", "Not allowed to update this transient data entry.")  # (10)
    IGNORED = ("ignored", "Unsupported message type.")  # (10)
    ADD_FAILED = ("add_failed", "Could not add virtual session.")  # (11.2)
    REMOVE_FAILED = ("remove_failed", "Could not remove virtual session from backend.")  # (11.3)
    CLIENT_NOT_FOUND = ("client_not_found", "No MCU client found to send message to.")  # (9.9)
    PROCESSING_FAILED = ("processing_failed", "Processing of the message failed, please check server logs.")  # (9.9)
    NO_SDP = ("invalid_sdp", "Payload does not contain a valid SDP.")  # (5.2)
    INVALID_SDP = ("invalid_sdp", "Error parsing SDP from payload.")  # (5.2)
    INVALID_SDP_CANDIDATE = ("invalid_sdp", "Error parsing candidate from media description.")  # (5.2)
    NO_CANDIDATE = ("no_candidate", "Payload does not contain a candidate.")  # (5.2)
    INVALID_CANDIDATE = ("invalid_candidate", "Payload does not contain a valid candidate.")  # (5.2)
    UNPARSABLE_CANDIDATE = ("invalid_candidate", "Error parsing candidate from payload.")  # (5.2)

    def error(self, details: object = None, *, message: str = "") -> Error:
        """Return the error object; ``details`` is encoded as JSON, ``message`` replaces the standard text."""
        code, standard = self.value
        raw = ABSENT if details is None else Raw(msgspec.json.encode(details))
        return Error(code, message or standard, raw)


class ProtocolError(Exception):
    """A request failed; the flow that catches this replies with ``error``."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.code)
        self.error = error

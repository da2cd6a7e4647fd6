"""The WebSocket to Janus' API: opened with the reason of a failure, and closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import aiohttp

from mcu.janus.connection.diagnosis import explain
from mcu.janus.connection.messages import SUBPROTOCOL

PROXY_WITHOUT_JANUS = (502, 503)  # HTTP: the answer of a proxy whose Janus is gone
NO_ANSWER = "it does not answer"


class NoConnection(Exception):
    """An attempt to connect failed; the text is the reason."""

    def __init__(self, reason: str, *, gone: bool = False, reached: bool = True) -> None:
        super().__init__(reason)
        self.gone = gone  # whether Janus does not run any more, so that the session is lost
        self.reached = reached  # whether its host accepts connections


async def open_socket(
    http: aiohttp.ClientSession,
    url: str,
    limit: float,
    close_limit: float,
) -> aiohttp.ClientWebSocketResponse:
    """Connect to Janus' WebSocket API within ``limit`` seconds; closing it later takes ``close_limit`` at most.

    Raises:
        NoConnection: the attempt failed.
    """
    try:
        async with asyncio.timeout(limit):
            return await http.ws_connect(
                url,
                protocols=[SUBPROTOCOL],
                timeout=aiohttp.ClientWSTimeout(ws_close=close_limit),
                max_msg_size=0,
            )
    except aiohttp.ConnectionTimeoutError as error:
        raise NoConnection(NO_ANSWER, reached=False) from error
    except TimeoutError as error:
        raise NoConnection(NO_ANSWER) from error
    except aiohttp.WSServerHandshakeError as error:
        if error.status in PROXY_WITHOUT_JANUS:
            raise NoConnection("there is no Janus behind the proxy", gone=True) from error
        raise NoConnection(await explain(http, url, SUBPROTOCOL, error)) from error
    except (OSError, aiohttp.ClientError) as error:
        gone = getattr(error, "errno", None) == errno.ECONNREFUSED  # the process is gone, and the session with it
        reason = await explain(http, url, SUBPROTOCOL, error)
        raise NoConnection(reason, gone=gone, reached=False) from error


async def close(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Close a WebSocket; errors of its connection are ignored."""
    with contextlib.suppress(OSError, aiohttp.ClientError):
        await socket.close()

"""The backend of the benchmark: a real HTTP server that accepts every user and every room.

Answers what a gateway asks of Nextcloud (reference 3.7, 3.8, 4.1) in the OCS wrapping; what it costs is not
measured, since it runs in a process of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web


def _ocs(data: Any) -> web.Response:
    return web.json_response({"ocs": {"meta": {"status": "ok", "statuscode": 200, "message": "OK"}, "data": data}})


async def _capabilities(_: web.Request) -> web.Response:
    spreed = {"features": ["signaling-v3"], "config": {"signaling": {"session-ping-limit": 200}}}
    return _ocs({"capabilities": {"spreed": spreed}})


async def _backend(request: web.Request) -> web.Response:
    body = await request.json()
    match body["type"]:
        case "auth":
            userid = body["auth"]["params"]["userid"]
            answer = {"version": "1.0", "userid": userid, "user": {"displayname": f"User {userid}"}}
        case "room":
            answer = {"version": "1.0", "roomid": body["room"]["roomid"], "properties": {"name": "Bench", "type": 2}}
        case _:
            answer = {"version": "1.0", "roomid": body[body["type"]].get("roomid", "")}
    return _ocs({"type": body["type"], body["type"]: answer})


async def serve() -> None:
    """Serve on a free loopback port, print the port, and run until killed."""
    app = web.Application()
    app.router.add_get("/ocs/v2.php/cloud/capabilities", _capabilities)
    app.router.add_post("/ocs/v2.php/apps/spreed/api/{version}/signaling/backend", _backend)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - the parent process reads the port
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())

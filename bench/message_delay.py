"""Measures the delay of messages from one client to another through a gateway.

``python -m bench.message_delay PORT BACKEND SECONDS``: two clients in a room; one sends a message to the other's
session every 20 ms, whether or not the last one has arrived. Prints the delays in milliseconds as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid

from bench.client import BenchClient

INTERVAL = 0.02  # seconds


def measure(port: int, backend: str, seconds: float) -> list[float]:
    """Return the delays in milliseconds."""
    room = uuid.uuid4().hex[:12]
    with BenchClient(port) as one, BenchClient(port) as other:
        for name, client in (("one", one), ("other", other)):
            client.upgrade(port)
            client.hello(backend, name)
            client.join(room, f"{room}-{name}")
        count = int(seconds / INTERVAL)
        sent = [0.0] * count
        delays: list[float] = []

        def send() -> None:
            begun = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, begun + number * INTERVAL - time.monotonic()))
                recipient = {"type": "session", "sessionid": other.session}
                data = {"type": "nickChanged", "payload": {"name": str(number)}}
                message = {"type": "message", "message": {"recipient": recipient, "data": data}}
                sent[number] = time.monotonic()
                one.send(message)

        sender = threading.Thread(target=send)
        sender.start()
        while len(delays) < count:
            message = other.expect("message")
            delays.append((time.monotonic() - sent[int(message["message"]["data"]["payload"]["name"])]) * 1000)
        sender.join()
        for client in (one, other):
            client.bye()
    return delays


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))  # noqa: T201 - read by bench.sfu

"""What the nodes of these tests do with events: `cluster.start(3, app="tests.integration.events.apps:app")`."""

import asyncio
from typing import Any

import psutil

import fdn

app = fdn.App("events")
_seen: list[Any] = []
_stream = {"received": 0, "last": -1, "disorder": 0}


@app.subscribe("orders.*.created")
async def on_created(order: int, context: fdn.Context) -> None:
    _seen.append([context.target, order])


@app.subscribe("jobs.>", queue="workers")
async def on_job(number: int) -> None:
    _seen.append(number)


@app.subscribe("stream.slow", queue_max=100)
async def on_slow(event: dict[str, Any]) -> None:
    if event["n"] % 16 == 0:
        await asyncio.sleep(0.002)
    _stream["disorder"] += event["n"] != _stream["last"] + 1
    _stream["last"] = event["n"]
    _stream["received"] += 1


@app.service("seen")
def seen() -> list[Any]:
    return _seen


@app.service("stream")
def stream() -> dict[str, int]:
    return _stream


@app.service("memory")
def memory() -> int:
    """Resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)

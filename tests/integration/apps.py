"""Services for the nodes of these tests: `cluster.start(3, app="tests.integration.apps:app")`."""

import asyncio
import os
import time

import fdn

app = fdn.App("integration")


@app.service("math")
class Math:
    async def add(self, a: int, b: int) -> int:
        return a + b

    def divide(self, a: int, b: int) -> float:
        return a / b


@app.service("who")
def who(context: fdn.Context) -> str:
    return context.node


@app.service("pid")
def pid() -> int:
    return os.getpid()


@app.service("echo")
def echo(data: object) -> object:
    return data


_running = 0


@app.service("slow")
async def slow(seconds: float) -> str:
    global _running
    _running += 1
    try:
        await asyncio.sleep(seconds)
    finally:
        _running -= 1
    return "done"


@app.service("running")
def running() -> int:
    """Calls of `slow` that have begun here and not ended."""
    return _running


@app.service("block")
class Block:
    """Handlers that do what a handler must not: hold the user's loop."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def spin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

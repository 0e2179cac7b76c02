"""What the nodes of these tests serve to the programs of other languages."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import fdn

app = fdn.App("interop")
_state: Counter[str] = Counter()


@app.service("state")
def state(name: str) -> int:
    """How often something has happened here: see below."""
    return _state[name]


@app.service("math")
class Math:
    async def add(self, a: int, b: int) -> int:
        return a + b


@app.service("echo")
def echo(data: Any) -> Any:
    return data


@app.service("buy")
def buy(what: str) -> None:
    raise fdn.Overloaded(f"{what} is sold out", hint="come back tomorrow")


@app.service("headers")
def headers(context: fdn.Context) -> dict[str, str]:
    return dict(context.headers)


@app.service("note")
def note(name: str) -> None:
    _state[name] += 1


@app.service("slow")
async def slow(name: str) -> None:
    """Runs until nobody waits any more."""
    _state[name] += 1
    try:
        await asyncio.sleep(3600)
    finally:
        _state[name] -= 1


@app.service("queue", concurrency=1)
async def queue(seconds: float, name: str) -> None:
    """One at a time: what comes behind waits."""
    _state[name] += 1
    await asyncio.sleep(seconds)


@app.service("count")
async def count(n: int, name: str = "") -> AsyncIterator[int]:
    try:
        for number in range(n):
            _state[f"{name}.produced"] += 1
            yield number
    finally:
        _state[f"{name}.closed"] += 1


@app.service("run_dry")
async def run_dry(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number
    raise fdn.Overloaded(f"only {n} left", hint="order some")


@app.service("total")
async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


@app.service("double")
async def double(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
    async for number in numbers:
        yield 2 * number

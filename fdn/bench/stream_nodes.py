"""A node that streams and one that reads, each a process, as `fdn bench stream` drives them.

The reply is read by `async for`; or, to compare, in the two forms that a callback could have, which fdn does not offer
for streams. Both are the least that they would cost, with the same decoding and flow control:

- `callback`, an `async def` that is awaited for each item, in order; it may wait, as the body of a loop may.
- `function`, a plain `def` that is run for each item where that arrives, without a queue; it can neither wait nor hold
  the sender up.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from fdn.app import App
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import exchange, orders_on_loop, until
from fdn.messaging.stream_flow import StreamReceiver, Window
from fdn.messaging.workers import loop_pass
from fdn.node import Node
from fdn.settings import Settings
from transports.parcel import Body

__all__ = ("KINDS", "client", "server")

KINDS: Final = ("iterator", "callback", "function", "request")
_ITEMS_PER_PASS_MAX: Final = 256  # as an iterator
_TIMEOUT_S: Final = 60.0


def server(endpoint: str) -> None:
    """Stream to whoever asks, until there are no more orders."""
    app = App("bench")

    @app.service("bench.items")
    async def items(size: int, seconds: float, count: int) -> AsyncIterator[bytes]:
        data = bytes(size)
        for _ in until(count, seconds, 256):
            yield data

    @app.service("bench.sink")
    async def sink(received: AsyncIterator[bytes]) -> int:
        count = 0
        async for _ in received:
            count += 1
        return count

    async def main() -> None:
        async with Node(app, settings=Settings(name="server", cluster=CLUSTER, bind=endpoint)) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def client(endpoint: str, join: str) -> None:
    """Join the server, and read its streams, or send it one, as ordered."""

    async def main() -> None:
        settings = Settings(name="client", cluster=CLUSTER, bind=endpoint, join=(join,))
        async with Node(settings=settings) as node:
            work = {"iterator": _by_iterator, "callback": _by_callback, "function": _by_function, "request": _request}

            async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
                kind = order.pop("order")
                used_s, started = time.process_time(), time.perf_counter()
                count = await work[kind](node, **order)
                return {
                    "items": count,
                    "elapsed_s": time.perf_counter() - started,
                    "used_s": time.process_time() - used_s,
                }

            await orders_on_loop({}, carry_out)

    run_loop(main)


async def _by_iterator(node: Node, size: int, seconds: float, count: int | None) -> int:
    received = 0
    async for _ in node.stream("bench.items", _wanted(size, seconds, count), returns=bytes, timeout=_TIMEOUT_S):
        received += 1
    return received


async def _by_callback(node: Node, size: int, seconds: float, count: int | None) -> int:
    received = 0

    async def callback(item: bytes) -> None:
        nonlocal received
        received += 1

    decode: Callable[[Any], bytes] = msgspec.msgpack.Decoder(bytes).decode
    call = await node._streams.open("bench.items", _wanted(size, seconds, count), None, _TIMEOUT_S)
    while True:
        for _ in range(_ITEMS_PER_PASS_MAX):
            body = call.received.take() or await call.next_body(_TIMEOUT_S)
            if body is None:
                return received
            await callback(decode(body))
        await loop_pass()


async def _by_function(node: Node, size: int, seconds: float, count: int | None) -> int:
    received = 0

    def function(item: bytes) -> None:
        nonlocal received
        received += 1

    # What is open has not waited since it was sent, so nothing has come that the receiver put in its place would miss.
    call = await node._streams.open("bench.items", _wanted(size, seconds, count), None, _TIMEOUT_S)
    calls = node.settings.calls
    window = (calls.stream_window_items, calls.stream_window_bytes)
    call.received = _Called(window, call.received._grant, asyncio.get_running_loop(), bytes, function)
    await call.received.wait()
    return received


async def _request(node: Node, size: int, seconds: float, count: int | None) -> int:
    data = bytes(size)
    sent = -1

    async def items() -> AsyncIterator[bytes]:
        nonlocal sent
        for sent in until(count or sys.maxsize, seconds, 256):  # noqa: B007 - read after the loop
            yield data

    received: int = await node.call("bench.sink", items=items(), timeout=_TIMEOUT_S)
    assert received == sent + 1, (received, sent)
    return received


def _wanted(size: int, seconds: float, count: int | None) -> dict[str, Any]:
    return {"size": size, "seconds": seconds, "count": count or sys.maxsize}


class _Called(StreamReceiver):
    """Runs a function for each item, in place of keeping it until it is read."""

    __slots__ = ("_decode", "_function")

    def __init__(
        self,
        window: Window,
        grant: Callable[[Window], None],
        loop: asyncio.AbstractEventLoop,
        returns: type,
        function: Callable[[Any], None],
    ) -> None:
        super().__init__(window, grant, loop)
        self._decode: Callable[[Any], Any] = msgspec.msgpack.Decoder(returns).decode
        self._function = function

    def put(self, body: Body) -> bool:
        if self.items_came >= self._items_granted or self.bytes_came >= self._bytes_granted:
            return False
        self.items_came += 1
        self.bytes_came += len(body)
        items, size = self._window
        if self._items_granted - self.items_came <= items // 2 or self._bytes_granted - self.bytes_came <= size // 2:
            self._items_granted = self.items_came + items
            self._bytes_granted = self.bytes_came + size
            self._grant((self._items_granted, self._bytes_granted))
        self._function(self._decode(body))
        return True

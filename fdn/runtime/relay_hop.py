"""The way to the next node of a path: one queue for everything that is relayed over one direct link."""

import asyncio
import collections
import dataclasses
from collections.abc import Callable

from fdn.errors import Unreachable
from fdn.runtime.link import Link
from transports.wire.envelope import Envelope

__all__ = ("Hop", "OnUnsent")

OnUnsent = Callable[[str], None]
"""Called with the reason when an envelope could not be passed on."""


@dataclasses.dataclass(slots=True)
class _Waiting:
    envelope: Envelope
    size: int
    origin: str
    on_unsent: OnUnsent


class Hop:
    """Sends in order, within the link's credit. What the link does not take at once waits here, within bounds.

    Args:
        link: The direct link as it is now.
        messages_max: Envelopes of one origin that may wait; past it, further ones are refused.
        bytes_max: The same in bytes.
    """

    def __init__(
        self, link: Callable[[], Link], messages_max: int, bytes_max: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._link = link
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._loop = loop
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._held: dict[str, tuple[int, int]] = {}  # by origin: envelopes and bytes in the queue
        self._room: list[Callable[[], None]] = []
        self._pump: asyncio.Task[None] | None = None

    def send(self, envelope: Envelope, origin: str, on_unsent: OnUnsent) -> None:
        """Pass on, now or as soon as the link takes it. Never waits."""
        if not self._queue:
            try:
                connection = self._link().connection
            except Unreachable as error:
                on_unsent(error.message)
                return
            if connection is not None and not connection.full:
                connection.send(envelope)
                return
        size = 0 if envelope.body is None else len(envelope.body)
        messages, held = self._held.get(origin, (0, 0))
        if messages and (messages >= self._messages_max or held + size > self._bytes_max):
            on_unsent(f"{messages} messages of it wait here (relay.queue_messages_max, relay.queue_bytes_max)")
            return
        self._held[origin] = messages + 1, held + size
        self._queue.append(_Waiting(envelope, size, origin, on_unsent))
        if self._pump is None:
            self._pump = self._loop.create_task(self._drain())

    @property
    def has_room(self) -> bool:
        """Whether nothing waits here; else ask to be told with `when_room`."""
        return not self._queue

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when nothing waits here any more, sent or refused."""
        self._room.append(callback)

    def close(self) -> None:
        """Drop what waits; nobody is told. Idempotent."""
        self._queue.clear()
        self._held.clear()
        self._room.clear()
        if self._pump is not None:
            self._pump.cancel()

    async def _drain(self) -> None:
        try:
            while self._queue:
                connection = await self._link().wait_open()
                if connection.full:
                    await connection.wait_room()
                    continue  # it may have ended meanwhile
                connection.send(self._next().envelope)
        except Unreachable as error:
            while self._queue:
                self._next().on_unsent(error.message)
        finally:
            self._pump = None
            room, self._room = self._room, []
            for callback in room:
                callback()

    def _next(self) -> _Waiting:
        waiting = self._queue.popleft()
        messages, held = self._held[waiting.origin]
        if messages == 1:
            del self._held[waiting.origin]
        else:
            self._held[waiting.origin] = messages - 1, held - waiting.size
        return waiting

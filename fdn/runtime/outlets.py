"""Ways out for what must keep its order and may have to wait: the elements of streams.

When the connection that carried an outlet's envelopes is lost, some of them may be lost, and so nothing more may
follow.
"""

import asyncio
from typing import Final, Protocol

from fdn.errors import Unreachable
from fdn.runtime.link import Link
from transports.transport import Listener
from transports.wire.envelope import Envelope

__all__ = ("ClientOutlet", "LinkOutlet", "Outlet")

_PAUSE_S: Final = 0.002  # before a client whose queue was full is tried again; doubles
_PAUSE_S_MAX: Final = 0.1
_PATIENCE_S: Final = 30.0  # a client that takes nothing for so long is held gone: libzmq does not tell


class Outlet(Protocol):
    """Where envelopes of one stream leave, in their order."""

    def try_send(self, envelope: Envelope) -> bool:
        """Send if there is room. False: nothing was done; `wait_room` first."""

    async def wait_room(self) -> None:
        """Return when it is worth trying again.

        Raises:
            Unreachable: The other side is gone, or the connection that carried what came before.
        """


class LinkOutlet:
    """On our own link to another node, within its credit. A link that was closed as idle is opened again."""

    __slots__ = ("_link", "_losses")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._losses = link.losses

    def try_send(self, envelope: Envelope) -> bool:
        connection = self._link.connection
        if connection is None or connection.full or self._link.losses != self._losses:
            return False
        connection.send(envelope)
        return True

    async def wait_room(self) -> None:
        if self._link.losses == self._losses:
            connection = await self._link.wait_open()
            await connection.wait_room()
        if self._link.losses != self._losses:
            raise Unreachable(
                f"the link to node {self._link.peer} was lost in the middle of a stream",
                hint="some of its items may be lost: begin it again",
            )


class ClientOutlet:
    """On the connection that a client has dialled."""

    __slots__ = ("_full_since", "_listener", "_loop", "_pause", "_source")

    def __init__(self, listener: Listener, source: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._source = source
        self._loop = loop
        self._pause = _PAUSE_S
        self._full_since = 0.0

    def try_send(self, envelope: Envelope) -> bool:
        if not self._listener.send(self._source, envelope):
            return False
        self._pause, self._full_since = _PAUSE_S, 0.0
        return True

    async def wait_room(self) -> None:
        now = self._loop.time()
        self._full_since = self._full_since or now
        if now - self._full_since >= _PATIENCE_S:
            raise Unreachable(f"this client has read nothing for {_PATIENCE_S:g} s", hint="read faster, and ask again")
        done = self._loop.create_future()
        timer = self._loop.call_later(self._pause, done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()
        self._pause = min(2 * self._pause, _PAUSE_S_MAX)

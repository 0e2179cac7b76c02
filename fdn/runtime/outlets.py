"""Ways out for what must keep its order and may have to wait: the elements of streams.

When the connection that carried an outlet's envelopes is lost, some of them may be lost, and so nothing more may
follow.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from fdn.errors import BadRequest, Unreachable
from fdn.runtime.link import Link
from transports.errors import OversizedEnvelope
from transports.parcel import Parcel
from transports.transport import ATTACHMENTS, Listener
from transports.wire.envelope import Envelope

__all__ = ("ClientOutlet", "LinkOutlet", "Outlet", "does_not_fit_frame", "send_to_client")

_PAUSE_S: Final = 0.002  # before a client whose queue was full is tried again; doubles
_PAUSE_S_MAX: Final = 0.1
_PATIENCE_S: Final = 30.0  # a client that takes nothing for so long is held gone, even if it is still connected


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
    """On our own link to another node, within its credit.

    The link is opened at once and kept open as long as this lives, however quiet the stream. Closed as idle it could
    lose what a paused peer has not read yet, and the loss of a connection is how the death of a peer is noticed first.
    """

    __slots__ = ("__weakref__", "_link", "_losses", "_size")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._losses = link.losses
        self._size = 0  # of the large message that found no room
        link.users.add(self)
        link.open()

    def try_send(self, envelope: Envelope) -> bool:
        """See `Outlet.try_send`."""
        connection = self._link.connection
        if connection is None or connection.full or self._link.losses != self._losses:
            return False
        if connection.bulk_full and not connection.has_room(len(envelope.body or b"")):
            self._size = len(envelope.body)
            return False
        self._size = 0
        try:
            connection.send(envelope)
        except OversizedEnvelope as error:
            raise does_not_fit_frame(error, self._link.peer) from error
        return True

    async def wait_room(self) -> None:
        """See `Outlet.wait_room`."""
        if self._link.losses == self._losses:
            connection = await self._link.wait_open()
            await connection.wait_room(self._size)
        if self._link.losses != self._losses:
            raise Unreachable(
                f"the link to node {self._link.peer} was lost in the middle of a stream",
                hint="some of its items may be lost: begin it again",
            )


class ClientOutlet:
    """On the connection that a client has dialled.

    Args:
        listener: Where it has dialled.
        source: Its routing id there.
        features: Optional parts of the protocol that it speaks.
        loop: For waiting.
        on_gone: Called with `source` when there is no such connection any more.
    """

    __slots__ = ("_features", "_full_since", "_gone", "_listener", "_loop", "_on_gone", "_pause", "_source")

    def __init__(
        self,
        listener: Listener,
        source: bytes,
        features: Collection[str],
        loop: asyncio.AbstractEventLoop,
        on_gone: Callable[[bytes], None],
    ) -> None:
        self._listener = listener
        self._source = source
        self._features = features
        self._loop = loop
        self._on_gone = on_gone
        self._pause = _PAUSE_S
        self._full_since = 0.0
        self._gone = False

    def try_send(self, envelope: Envelope) -> bool:
        """See `Outlet.try_send`."""
        if not send_to_client(self._listener, self._source, self._features, envelope):
            if self._listener.gone and not self._gone:
                self._gone = True
                self._on_gone(self._source)
            return False
        self._pause, self._full_since = _PAUSE_S, 0.0
        return True

    async def wait_room(self) -> None:
        """See `Outlet.wait_room`."""
        if self._gone:
            raise Unreachable("this client is gone", hint="ask again, on a new connection")
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


def does_not_fit_frame(error: OversizedEnvelope, node: str) -> BadRequest:
    """What it means to whoever sends that a message is too large for a peer."""
    return BadRequest(
        f"node {node} takes {error.limit} bytes at once, and this is {error.size}",
        hint="it takes no large messages in pieces (or data.body_bytes_max is less): send less at once",
    )


def send_to_client(listener: Listener, source: bytes, features: Collection[str], envelope: Envelope) -> bool:
    """Send an envelope on the connection of a client, in the form that it understands. See `Listener.send`.

    Raises:
        BadRequest: It is larger than a client can be sent.
    """
    if type(envelope.body) is Parcel and ATTACHMENTS not in features:
        fields = (envelope.kind, envelope.to, envelope.id, envelope.deadline_ms, envelope.meta)
        envelope = Envelope(*fields, envelope.body.inline())
    try:
        return listener.send(source, envelope)
    except OversizedEnvelope as error:
        raise BadRequest(
            f"{error.size} bytes are more than the {error.limit} that a client can be sent at once",
            hint="send it in pieces, as a stream",
        ) from error

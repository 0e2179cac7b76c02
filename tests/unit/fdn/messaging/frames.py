"""A client on the data channel that is nothing but frames."""

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

import fdn
from tests.unit.fdn.harness import Mallory, World, body, until
from tests.unit.transports.harness import Dialled
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Identity, Role

__all__ = ("StreamClient",)

_EXEMPT = (Kind.REPLY, Kind.ERROR, Kind.CREDIT, Kind.CANCEL, Kind.BYE, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE)


class StreamClient:
    """Asks, serves, and keeps what it hears.

    Args:
        name: Its client id.
    """

    def __init__(self, world: World, name: str = "client-1") -> None:
        self._world = world
        self._peer = Mallory(world, name, name)
        self._ids = itertools.count(1)
        self.line: Dialled

    async def connect(self, node: fdn.Node) -> "StreamClient":
        self.line = await self._peer.dial(node, role=Role.CLIENT, identity=Identity(self._peer.node))
        assert self.line.inbox.envelopes[0].kind == Kind.WELCOME
        return self

    @property
    def heard(self) -> list[Envelope]:
        return self.line.inbox.envelopes

    def say(
        self,
        kind: Kind,
        number: int,
        value: Any = None,
        *,
        to: str = "",
        deadline_ms: int = 0,
        meta: Mapping[MetaKey, Any] | None = None,
    ) -> None:
        packed = None if meta is None else {int(key): value for key, value in meta.items()}
        envelope = Envelope(kind, to, number, deadline_ms, packed, body(value))
        (self.line.connection.send_exempt if kind in _EXEMPT else self.line.connection.send)(envelope)

    def ask(
        self,
        target: str,
        payload: Any = None,
        *,
        window: tuple[int, int] | None = None,
        items: bool = False,
        deadline_ms: int = 100_000,
    ) -> int:
        """Send a CALL; returns its id."""
        number = next(self._ids)
        meta: dict[MetaKey, Any] = {}
        if window is not None:
            meta[MetaKey.WINDOW] = window
        if items:
            meta[MetaKey.REQUEST_STREAM] = True
        self.say(Kind.CALL, number, payload, to=target, deadline_ms=deadline_ms, meta=meta)
        return number

    async def serve(self, name: str, number: int, wanted: Any = None) -> Envelope:
        """Say SUBSCRIBE; returns the answer."""
        before = len(self.of(number, Kind.REPLY, Kind.ERROR))
        self.say(Kind.SUBSCRIBE, number, wanted, to=name)
        await until(lambda: len(self.of(number, Kind.REPLY, Kind.ERROR)) > before)
        return self.of(number, Kind.REPLY, Kind.ERROR)[-1]

    def of(self, number: int, *kinds: Kind) -> list[Envelope]:
        """What came of this call, of these kinds."""
        return [e for e in self.heard if e.id == number and e.kind in (kinds or tuple(Kind))]

    def values(self, number: int, kind: Kind = Kind.ITEM) -> list[Any]:
        return [msgspec.msgpack.decode(e.body) for e in self.of(number, kind)]

    def calls(self, to: str = "") -> list[Envelope]:
        """CALLs and CASTs that this client was given to serve."""
        return [e for e in self.heard if e.kind in (Kind.CALL, Kind.CAST) and to in ("", e.to)]

    def die(self) -> None:
        """Be gone without a word."""
        self.line.connection.close()

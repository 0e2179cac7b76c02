"""Who is on the other side of our listeners: no frame is believed before its connection has said HELLO.

A ROUTER tells connections apart by a routing id of its own making, so a peer cannot pose as another connection. What
libzmq does not tell is that a connection ended; a session therefore goes when its peer says BYE or is declared dead,
and the ones unused for longest go when there are too many, of one peer or in all.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable

import msgspec

from fdn.runtime.flow.transit import Transit
from fdn.runtime.greeting import HANDSHAKE_BYTES_MAX, Greeter
from fdn.runtime.outlets import Outlet
from transports.channel import Channel
from transports.credit import GrantWindow
from transports.transport import Batch, Listener
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Hello, Identity, Refused, RefusedCode, Role, Welcome

__all__ = ("Session", "Sessions", "SessionsStats")

_log = logging.getLogger(__name__)
_hello_decoder = msgspec.msgpack.Decoder(Hello)
_encode = msgspec.msgpack.Encoder().encode
_PER_PEER_MAX = 4  # sessions of one peer on one lane of one channel
_OWED_MAX = 1024  # goodbyes that could not be sent and are remembered


class Session:
    """One connection that introduced itself.

    Attributes:
        source: Routing id on `listener`.
        listener: Where it came in.
        channel: The traffic class.
        hello: What it said.
        peer: The node id (or client id) that it claims.
        lane: Which of the peer's parallel connections on this channel it is.
        is_client: Whether it is no member.
        key: Its public key, or None without CURVE.
        transit: How long its messages are on their way.
        grant: What it may send us, and what we have consumed of it.
        answer: Sends an envelope back to this peer, without waiting: for a client on this very connection, for a node
            on our own connection to it.
        outlet: Makes a way out for the items of one stream to this peer.
        withdraw: Stops what is still on its way out of a large answer to a call of this peer.
    """

    __slots__ = (
        "answer",
        "channel",
        "grant",
        "hello",
        "is_client",
        "key",
        "lane",
        "listener",
        "outlet",
        "peer",
        "source",
        "transit",
        "withdraw",
    )

    def __init__(self, batch: Batch, listener: Listener, channel: Channel, hello: Hello, grant: GrantWindow) -> None:
        self.source = batch.source
        self.listener = listener
        self.channel = channel
        self.hello = hello
        self.peer = hello.identity.node
        self.lane = hello.lane
        self.transit = Transit()
        self.is_client = hello.role is Role.CLIENT
        self.key = batch.key
        self.grant = grant
        self.answer: Callable[[Envelope], None] = self._answer_here
        self.outlet: Callable[[], Outlet]  # set by the plane, which knows the links
        self.withdraw: Callable[[int], None] = _no_answer_under_way

    def _answer_here(self, envelope: Envelope) -> None:
        self.listener.send(self.source, envelope)  # counted by the listener when the peer is gone or full


def _no_answer_under_way(call_id: int) -> None:
    """Answers to clients leave at once, whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionsStats:
    """Counters since the start."""

    open: int
    admitted: int
    refused: int
    unintroduced: int  # envelopes dropped because their connection had not said HELLO
    evicted: int  # sessions given up because `links.sessions_max` was reached


class Sessions:
    """The sessions of one plane.

    Args:
        greeter: Judges HELLOs.
        sessions_max: How many are held; past that the longest unused goes.
        credit: (messages, bytes) window that each gets.
        on_open: Called with each new session, after its WELCOME was sent.
        on_refused: Called with the HELLO and the refusal.
        on_close: Called with a session that ended (BYE, replaced, evicted or dropped).
    """

    def __init__(
        self,
        greeter: Greeter,
        sessions_max: int,
        credit: tuple[int, int],
        on_open: Callable[[Session], None],
        on_refused: Callable[[Hello, Refused], None],
        on_close: Callable[[Session], None],
    ) -> None:
        self._greeter = greeter
        self._max = sessions_max
        self._credit = credit
        self._on_open = on_open
        self._on_refused = on_refused
        self._on_close = on_close
        self._by_source: collections.OrderedDict[tuple[Channel, bytes], Session] = collections.OrderedDict()
        self._by_peer: dict[tuple[Channel, str], list[Session]] = {}  # the oldest first
        self._owed: collections.OrderedDict[tuple[Channel, bytes], None] = collections.OrderedDict()
        self._admitted = self._refused = self._unintroduced = self._evicted = 0

    def of(self, channel: Channel, listener: Listener, batch: Batch) -> Session | None:
        """The session a batch belongs to, opened if the batch begins with a good HELLO; None means: drop it."""
        envelopes = batch.envelopes
        if envelopes[0].kind == Kind.HELLO:
            return self._introduce(channel, listener, batch)
        key = (channel, batch.source)
        session = self._by_source.get(key)
        if session is None:
            self._unintroduced += len(envelopes)
            if key in self._owed and listener.send(batch.source, _reply(Kind.BYE, Bye("this session was given up"))):
                del self._owed[key]
            return None
        self._by_source.move_to_end(key)
        return session

    def close(self, session: Session) -> None:
        """End one session. Idempotent."""
        if self._by_source.pop((session.channel, session.source), None) is None:
            return
        siblings = self._by_peer[session.channel, session.peer]
        siblings.remove(session)
        if not siblings:
            del self._by_peer[session.channel, session.peer]
        self._on_close(session)

    def drop_peer(self, peer: str) -> None:
        """End all sessions of a peer that is dead or has left."""
        for session in [session for session in self._by_source.values() if session.peer == peer]:
            self.give_up(session, "you are held dead, or have left")

    def identity_of(self, peer: str) -> Identity | None:
        """What a node last said of itself on any channel, if a session of it is open."""
        latest = [sessions[-1] for channel in Channel if (sessions := self._by_peer.get((channel, peer)))]
        return next((session.hello.identity for session in latest if not session.is_client), None)

    def has(self, channel: Channel, peer: str) -> bool:
        """Whether a session of this peer is open on this channel."""
        return (channel, peer) in self._by_peer

    def open_sessions(self) -> tuple[Session, ...]:
        """All that are open, the longest unused first."""
        return tuple(self._by_source.values())

    def stats(self) -> SessionsStats:
        return SessionsStats(len(self._by_source), self._admitted, self._refused, self._unintroduced, self._evicted)

    def give_up(self, session: Session, reason: str) -> None:
        """End one session and say so to its peer, now or when it is heard again."""
        # A ROUTER cannot close one connection. A peer that was only paused would go on sending on it, unheard, and
        # never say HELLO again; the goodbye makes it dial anew.
        if not session.listener.send(session.source, _reply(Kind.BYE, Bye(reason))):
            self._owed[session.channel, session.source] = None  # its queue is full: told when it is heard again
            if len(self._owed) > _OWED_MAX:
                self._owed.popitem(last=False)
        self.close(session)

    def _introduce(self, channel: Channel, listener: Listener, batch: Batch) -> Session | None:
        # A second HELLO on a connection begins a new link epoch; what the old one was owed is void.
        former = self._by_source.get((channel, batch.source))
        if former is not None:
            self.close(former)
        envelope = batch.envelopes.pop(0)
        try:
            if memoryview(envelope.body).nbytes > HANDSHAKE_BYTES_MAX:
                raise ValueError(f"it exceeds {HANDSHAKE_BYTES_MAX} bytes")
            hello = _hello_decoder.decode(envelope.body)
        except (ValueError, RecursionError) as error:
            self._refused += 1
            refused = Refused(RefusedCode.MALFORMED, f"HELLO cannot be read: {error}"[:500])
            listener.send(batch.source, _reply(Kind.REFUSED, refused))
            return None
        answer = self._greeter.answer(hello, channel)
        if isinstance(answer, Refused):
            self._refused += 1
            listener.send(batch.source, _reply(Kind.REFUSED, answer))
            self._on_refused(hello, answer)
            return None
        return self._admit(channel, listener, batch, hello, answer)

    def _admit(self, channel: Channel, listener: Listener, batch: Batch, hello: Hello, welcome: Welcome) -> Session:
        session = Session(batch, listener, channel, hello, GrantWindow(*self._credit))
        # A newer connection does not end the older one: nodes that dial each other while they join have two for a
        # moment, and whoever borrows an identity must not silence its owner. What nobody uses any more is forgotten.
        siblings = [each for each in self._by_peer.get((channel, session.peer), ()) if each.lane == session.lane]
        if len(siblings) >= _PER_PEER_MAX:
            self.give_up(siblings[0], "too many sessions of one peer")
        if len(self._by_source) >= self._max:
            oldest = next(iter(self._by_source.values()))
            self._evicted += 1
            _log.warning(
                "session of %s given up: links.sessions_max=%d reached",
                oldest.peer,
                self._max,
                extra={"peer": oldest.peer},
            )
            self.give_up(oldest, "too many sessions")
        self._by_source[channel, batch.source] = session
        self._by_peer.setdefault((channel, session.peer), []).append(session)
        self._admitted += 1
        listener.send(batch.source, _reply(Kind.WELCOME, welcome))
        self._on_open(session)
        return session


def _reply(kind: Kind, body: Welcome | Refused | Bye) -> Envelope:
    return Envelope(kind, body=msgspec.Raw(_encode(body)))

"""One node at a time: its three channels, and another node when it is lost. Wire format: sections 3 and 5.

    IDLE ──want──> DIALLING ──WELCOME──> READY ──lost, or BYE──> LEAVING ──> DIALLING, at once, or when this one did
      ^               │                                                      not last, after a pause (WAITING)
      └──nobody, and ─┴─ nobody ──> WAITING ──> DIALLING
         it fails fast

A *round* tries every address that is known, one after the other. The channels `data` and `events` are dialled when they
are first wanted, and one that fails ends the connection as a whole: its node is not one to stay with. It *fails fast*,
reporting the first round in which nobody answers, until it was connected once, and always when it was told not to
reconnect; later it goes on, with pauses.

Three connections end in no particular order, and a node that stops answers first and says goodbye then. So what has
come on the others is taken in before a loss counts (`Sweep`), and after a BYE on one of them the answers that are still
awaited get a moment.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fdn.client.addresses import Addresses
from fdn.client.codec import Kind, Received, batch, decode, encode, envelope, pair_of
from fdn.client.outbox import Credit, Outbox
from fdn.client.parts import FEATURE
from fdn.client.signals import Signal
from fdn.errors import ConfigError, Error, Unreachable, VersionMismatch

__all__ = ("CHANNELS", "Connection", "Dial", "Hang", "Link", "Owner", "Phase", "Sweep", "Tell")

CHANNELS: Final = ("coordination", "data", "events")
_VERSIONS: Final = (1, 1)
_ATTEMPT_S_LEAST: Final = 0.5
_FAREWELL: Final = batch([envelope(Kind.BYE, "", 0, 0, None, encode({"reason": "closed"}))])
_GOODBYE_S: Final = 0.25  # between a BYE and the end of what is under way
_LASTING_S: Final = 1.0  # a connection lost sooner than that is followed by a pause


class Phase(enum.Enum):
    """See the module."""

    IDLE = enum.auto()
    DIALLING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()
    WAITING = enum.auto()


class Dial(NamedTuple):
    """Connect a fresh socket; what cannot be an address is `Connection.on_undialled`."""

    channel: str
    endpoint: str


class Hang(NamedTuple):
    """Close the socket, after sending `farewell` if there is one."""

    channel: str
    farewell: bytes | None


class Sweep(NamedTuple):
    """Take in what has come on every socket, then call `Connection.on_swept`."""


class Tell(NamedTuple):
    """For the log: the node was lost (a warning), or found again."""

    text: str
    is_warning: bool


class Link:
    """One channel. Its outbox outlives connections.

    Attributes:
        epoch: Of this connection.
        dialled: Whether it has a socket.
        ready: Whether the node has said WELCOME.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outbox = Outbox()
        self.credit = Credit((0, 0), 0)
        self.epoch = 0
        self.dialled = False
        self.ready = False
        self.endpoint = ""
        self.gives_up_at = 0.0
        self._held: bytes | None = None

    def next_frame(self, now: float) -> bytes | None:
        """What to send now, if anything."""
        if self._held is not None:
            frame, self._held = self._held, None
            return frame
        return self.outbox.next_batch(self.credit, now) if self.ready else None

    def hold(self, frame: bytes) -> None:
        """The socket did not take it: it is the next one again."""
        self._held = frame

    @property
    def has_frame(self) -> bool:
        """Whether `next_frame` has something."""
        return self._held is not None or (self.ready and self.outbox.ready(self.credit))

    def begin(self, endpoint: str, epoch: int, hello: bytes, gives_up_at: float) -> None:
        """A fresh socket is dialled."""
        self.endpoint, self.epoch, self._held, self.gives_up_at = endpoint, epoch, hello, gives_up_at
        self.dialled, self.ready = True, False

    def on_welcome(self, granted: tuple[int, int]) -> None:
        """The node lets us in."""
        self.ready = True
        self.credit = Credit(granted, self.epoch)

    def end(self) -> None:
        """The socket is gone."""
        self.dialled = self.ready = False
        self._held = None


class Owner:
    """Who is told. `fdn.client.core.Core` is one."""

    def on_ready(self, channel: str, now: float) -> None:
        """A channel may be used."""

    def awaits_answers(self) -> bool:
        """Whether something that was sent is not answered yet."""
        return False

    def on_lost(self, error: Error, now: float) -> None:
        """The connection is gone, and with it whatever had been sent."""

    def on_envelope(self, channel: str, received: Received, now: float) -> None:
        """Something came in, after WELCOME."""


class Connection:
    """See the module.

    Args:
        addresses: Whom to dial.
        cluster: The cluster's name.
        identity: Ours.
        timeout_s: For a handshake; one round shares it among its addresses.
        reconnect: Whether to go on when the node is lost.
        epoch: Where link epochs begin.
        owner: Who is told.
        emit: Takes the effects.

    Attributes:
        node: The node's identity, as it told it; empty before the first WELCOME.
        endpoint: Where it is.
        connected: How often a node has been connected to.
        failed_rounds: How often nobody answered.
        changed: Fires when a channel becomes ready or is lost, and when a round has failed.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        cluster: str,
        identity: Mapping[str, Any],
        timeout_s: float,
        reconnect: bool,
        epoch: int,
        owner: Owner,
        emit: Callable[[Dial | Hang | Sweep | Tell], object],
    ) -> None:
        self.addresses = addresses
        self.timeout_s = timeout_s
        self.phase = Phase.IDLE
        self.links = {name: Link(name) for name in CHANNELS}
        self.node: dict[str, Any] = {}
        self.endpoint = ""
        self.connected = 0
        self.failed_rounds = 0
        self.changed = Signal()
        self._cluster = cluster
        self._identity = identity
        self._reconnect = reconnect
        self._epoch = epoch
        self._owner = owner
        self._emit = emit
        self._untried: list[str] = []
        self._attempt_s = timeout_s
        self._failures: list[Error] = []
        self._resumes_at = 0.0
        self._ready_at = 0.0
        self._leaves_at = 0.0
        self._why = ""
        self._sweeps = False

    # -- what users want

    @property
    def fails_fast(self) -> bool:
        """Whether a round in which nobody answers is reported."""
        return not self._reconnect or not self.connected

    def want(self, channel: str, now: float) -> Link:
        """Begin to make this channel ready, if nothing has begun yet."""
        link = self.links[channel]
        if self.phase is Phase.IDLE:
            self._begin_round(now)
        elif self.phase is Phase.READY and not link.dialled:
            self._dial(link, self.node["endpoints"][channel], now, self.timeout_s)
        return link

    def failure(self) -> Error:
        """Why the last round failed; a new instance each time, for it is raised in many places."""
        if not self._failures:
            return _silence(self.endpoint)
        if len(self._failures) == 1:
            only = self._failures[0]
            return type(only)(only.message, hint=only.hint)
        kinds = {type(each) for each in self._failures}
        reasons = "; ".join(each.message for each in self._failures)  # each names its address
        return (kinds.pop() if len(kinds) == 1 else Unreachable)(
            f"{len(self._failures)} nodes were tried: {reasons}", hint="are they running, and the addresses right?"
        )

    def hang_up(self) -> None:
        """Say goodbye and forget the node; `want` begins anew."""
        self._sweeps = False
        self._hang_all(_FAREWELL)
        self.phase = Phase.IDLE
        self.changed.fire()

    def move_on(self, why: str, now: float) -> None:
        """Say goodbye to the node, and find another. What was sent has been answered."""
        self._sweeps = False
        self._hang_all(_FAREWELL)
        self._lose(why, now, is_warning=False)

    # -- what the sockets tell

    def on_frame(self, channel: str, frame: bytes, now: float, attachments: Sequence[bytes] = ()) -> None:
        """A message came in."""
        link = self.links[channel]
        for received in decode(frame, attachments):
            if not link.dialled:
                return  # an earlier envelope has ended it
            if not link.ready:
                self._on_greeting(link, received, now)
            elif received.kind == Kind.BYE:
                self._on_bye(link, now)
            elif received.kind == Kind.CREDIT and not received.to:
                link.credit.on_credit(received.body)
            else:
                self._owner.on_envelope(channel, received, now)

    def on_lost(self, channel: str, now: float) -> None:
        """The socket's connection was refused, or has ended."""
        link = self.links[channel]
        if link.ready:
            self._leave(f"the connection to {self.endpoint} was lost", now)
        elif link.dialled:
            self._attempt_failed(link, _silence(link.endpoint, ": the connection was refused"), now)

    def on_swept(self, now: float) -> None:
        """All that had come is in: now the connection is lost."""
        if self._sweeps:
            self._sweeps = False
            self._lose(self._why, now)

    def on_undialled(self, channel: str, reason: str, now: float) -> None:
        """The address is none."""
        link = self.links[channel]
        error = ConfigError(f"{link.endpoint!r} cannot be dialled: {reason}", hint="expected tcp://HOST:PORT")
        self._attempt_failed(link, error, now)

    # -- time

    def tick(self, now: float) -> None:
        """Give up on whoever does not answer, and end pauses."""
        if self.phase is Phase.WAITING and now >= self._resumes_at:
            self._begin_round(now)
        if self.phase is Phase.LEAVING and now >= self._leaves_at and not self._sweeps:
            self._sweeps = True
            self._emit(Sweep())
        for link in self.links.values():
            if link.dialled and not link.ready and now >= link.gives_up_at:
                self._attempt_failed(link, _silence(link.endpoint), now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        if self.phase is Phase.WAITING:
            return self._resumes_at
        if self.phase is Phase.LEAVING:
            return self._leaves_at
        return min((link.gives_up_at for link in self.links.values() if link.dialled and not link.ready), default=None)

    # -- rounds

    def _begin_round(self, now: float) -> None:
        self.phase = Phase.DIALLING
        self._untried = self.addresses.round()
        self._failures = []
        # One that is silent must leave time for those behind it.
        least_s = min(self.timeout_s, _ATTEMPT_S_LEAST)
        self._attempt_s = max(self.timeout_s / max(1, len(self._untried)), least_s)
        self._try_next(now)

    def _try_next(self, now: float) -> None:
        if self._untried:
            self.endpoint = self._untried.pop(0)
            self._dial(self.links["coordination"], self.endpoint, now, self._attempt_s)
        else:
            self._round_failed(now)

    def _round_failed(self, now: float) -> None:
        self.failed_rounds += 1
        if self.fails_fast:
            self.phase = Phase.IDLE
        else:
            self._pause(now)
        self.changed.fire()

    def _pause(self, now: float) -> None:
        self.phase = Phase.WAITING
        self._resumes_at = now + self.addresses.pause_s()

    def _dial(self, link: Link, endpoint: str, now: float, seconds: float) -> None:
        self._epoch += 1
        hello = {
            "versions": _VERSIONS,
            "cluster": self._cluster,
            "identity": self._identity,
            "channel": link.name,
            "epoch": self._epoch,
            "role": "client",
            "features": [FEATURE],
        }
        frame = batch([envelope(Kind.HELLO, "", 0, 0, None, encode(hello))])
        link.begin(endpoint, self._epoch, frame, now + seconds)
        self._emit(Dial(link.name, endpoint))

    def _attempt_failed(self, link: Link, error: Error, now: float) -> None:
        self._failures.append(error)
        if link.name == "coordination":
            link.end()
            self._emit(Hang(link.name, None))
            self._try_next(now)
        else:
            self._give_up(error, now)
            self._round_failed(now)

    # -- the handshake

    def _on_greeting(self, link: Link, received: Received, now: float) -> None:
        where, body = link.endpoint, received.body if isinstance(received.body, dict) else {}
        if received.kind == Kind.REFUSED:
            self._attempt_failed(link, _refusal(where, body), now)
        elif received.kind != Kind.WELCOME:
            self._attempt_failed(
                link,
                Unreachable(
                    f"{where} answered a HELLO with kind {received.kind}", hint="is it an fdn node's base port?"
                ),
                now,
            )
        elif link.name != "coordination":
            link.on_welcome(pair_of(body.get("credit")) or (0, 0))
            self._announce(link, now)
        elif (identity := _identity(body)) is None:
            error = Unreachable(f"{where} sent a WELCOME without its endpoints", hint="is it an fdn node's base port?")
            self._attempt_failed(link, error, now)
        else:
            self.node = identity
            self.phase = Phase.READY
            self.connected += 1
            self._ready_at = now
            self._failures = []
            link.on_welcome(pair_of(body.get("credit")) or (0, 0))
            self.addresses.on_connected()
            if self.connected > 1:
                self._emit(Tell(f"connected to {where}", is_warning=False))
            self._announce(link, now)

    def _announce(self, link: Link, now: float) -> None:
        self._owner.on_ready(link.name, now)
        self.changed.fire()

    # -- the loss

    def _on_bye(self, link: Link, now: float) -> None:
        waits = link.name != "data" and self.links["data"].ready and self._owner.awaits_answers()
        self._leave(f"the node at {self.endpoint} is stopping", now + _GOODBYE_S if waits else now)

    def _leave(self, why: str, at: float) -> None:
        if self.phase is Phase.LEAVING:
            self._leaves_at = min(self._leaves_at, at)
        else:
            self.phase, self._leaves_at, self._why = Phase.LEAVING, at, why

    def _lose(self, why: str, now: float, is_warning: bool = True) -> None:
        error = Unreachable(why, hint="whether what was under way was carried out is not known")
        self._failures = [error]
        self._give_up(error, now)
        if not self._reconnect:
            self.phase = Phase.IDLE
        elif now - self._ready_at < _LASTING_S:
            self._pause(now)
        else:
            self._begin_round(now)
        if self._reconnect:
            self._emit(Tell(f"{why}; trying {len(self.addresses.round())} addresses", is_warning))
        self.changed.fire()

    def _give_up(self, error: Error, now: float) -> None:
        """Leave this node."""
        self.addresses.on_lost(self.endpoint)
        self._hang_all(None)
        self._owner.on_lost(error, now)

    def _hang_all(self, farewell: bytes | None) -> None:
        for link in self.links.values():
            if link.dialled:
                self._emit(Hang(link.name, farewell if link.ready else None))
                link.end()


def _silence(endpoint: str, why: str = "") -> Unreachable:
    return Unreachable(f"no node answers at {endpoint}{why}", hint="is the node running, and the address right?")


def _identity(welcome: Mapping[str, Any]) -> dict[str, Any] | None:
    """The node's identity, if it tells where its channels are."""
    identity: Any = welcome.get("identity")
    match identity:
        case {"endpoints": {"coordination": str(), "data": str(), "events": str()}}:
            return dict(identity)
    return None


def _refusal(endpoint: str, body: Mapping[str, Any]) -> Error:
    reason = f"{endpoint} refused this client: {body.get('reason', '')}"
    match body.get("code"):
        case "no_common_version":
            return VersionMismatch(reason, hint="use the fdn version of the cluster")
        case "wrong_cluster":
            return ConfigError(reason, hint="name the cluster with --cluster, FDN_CLUSTER or in fdn.toml")
    return Unreachable(reason, hint="try another node")

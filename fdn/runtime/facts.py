"""The typed stream of facts: one value per change of state, for users, the command line and later services."""

import asyncio
import collections
import weakref
from collections.abc import AsyncIterator

import msgspec

__all__ = (
    "DataPlaneLagging",
    "DataPlaneRecovered",
    "DeliveryGivenUp",
    "DrainStageEnded",
    "Fact",
    "FactStream",
    "FactsMissed",
    "HandshakeRefused",
    "LinkCongested",
    "LinkDown",
    "LinkRelieved",
    "LinkUp",
    "MemberAlive",
    "MemberDead",
    "MemberLeft",
    "MemberSuspect",
    "NameClash",
    "PeerOverdrew",
    "RouteChanged",
    "SettingsDiffer",
)


class Fact(msgspec.Struct, frozen=True):
    """Something that has happened. `at` is loop time, seconds."""

    at: float


class MemberAlive(Fact, frozen=True, tag=True):
    """A member joined, came back, or refuted a suspicion (`before` tells which)."""

    node: str
    name: str
    incarnation: tuple[int, int]
    before: str  # "", "alive", "suspect", "dead" or "left"


class MemberSuspect(Fact, frozen=True, tag=True):
    """A member is suspected."""

    node: str
    name: str
    by: str
    reason: str


class MemberDead(Fact, frozen=True, tag=True):
    """A member was declared dead."""

    node: str
    name: str
    by: str
    reason: str


class MemberLeft(Fact, frozen=True, tag=True):
    """A member left on purpose."""

    node: str
    name: str
    reason: str


class LinkUp(Fact, frozen=True, tag=True):
    """Our connection to a peer on one channel is open."""

    node: str
    channel: str
    endpoint: str


class LinkDown(Fact, frozen=True, tag=True):
    """Our connection to a peer on one channel ended, and what was still queued on it is dropped."""

    node: str
    channel: str
    endpoint: str
    reason: str
    dropped: int


class LinkCongested(Fact, frozen=True, tag=True):
    """Less than the peer allows is sent to it from now on, because what is under way takes too long (`reason`)."""

    node: str
    channel: str
    lane: int
    reason: str


class LinkRelieved(Fact, frozen=True, tag=True):
    """A congested link may use all of its credit again."""

    node: str
    channel: str
    lane: int


class PeerOverdrew(Fact, frozen=True, tag=True):
    """A peer sends more than it was granted: so many messages since the last such fact. No queue here grows for it."""

    node: str
    channel: str
    messages: int


class HandshakeRefused(Fact, frozen=True, tag=True):
    """A handshake was refused: ours by a peer (`inbound` false), or a peer's by us."""

    endpoint: str
    code: str
    reason: str
    inbound: bool


class SettingsDiffer(Fact, frozen=True, tag=True):
    """A peer runs with other settings than ours where all should agree."""

    node: str
    theirs: str
    ours: str


class NameClash(Fact, frozen=True, tag=True):
    """Two living nodes have one name; both work, people will mix them up."""

    name: str
    nodes: tuple[str, str]


class RouteChanged(Fact, frozen=True, tag=True):
    """Messages to a member take another way: over these relays (names, in order), or directly if there are none."""

    node: str
    name: str
    via: tuple[str, ...]
    reason: str


class DataPlaneLagging(Fact, frozen=True, tag=True):
    """This node's user loop has not turned for `lag_s`; `where` is the code that holds it, if known."""

    lag_s: float
    state: str
    where: str


class DataPlaneRecovered(Fact, frozen=True, tag=True):
    """This node's user loop turns again."""

    lag_s: float


class DeliveryGivenUp(Fact, frozen=True, tag=True):
    """Messages that were to be acknowledged by `node` were given up: `count` of them, the last of them `to` this."""

    node: str
    to: str
    count: int
    reason: str


class FactsMissed(Fact, frozen=True, tag=True):
    """A reader of the stream was too slow: `count` facts were dropped, oldest first."""

    count: int


class DrainStageEnded(Fact, frozen=True, tag=True):
    """This node drains, and one stage of it has ended: with `left` of `before` unfinished."""

    stage: str
    before: int
    left: int
    seconds: float


class FactStream:
    """Fans facts out to any number of readers, each with a bounded queue that drops its oldest."""

    def __init__(self, queue_max: int) -> None:
        self._queue_max = queue_max
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._closed = False

    def publish(self, fact: Fact) -> None:
        """Hand a fact to every reader. Never waits."""
        for reader in self._readers:
            reader.put(fact)

    def read(self) -> AsyncIterator[Fact]:
        """Facts from now on, in the order of their happening, `FactsMissed` where some were dropped.

        It ends when the stream is closed. A reader that is dropped costs nothing more.
        """
        reader = _Reader(self._queue_max)
        if self._closed:
            reader.end()
        self._readers.add(reader)
        return reader

    def close(self) -> None:
        """End every reader, once it has read what it has. Idempotent."""
        self._closed = True
        for reader in self._readers:
            reader.end()


class _Reader:
    def __init__(self, queue_max: int) -> None:
        self._queue: collections.deque[Fact] = collections.deque(maxlen=queue_max)
        self._missed = 0
        self._ended = False
        self._ready = asyncio.Event()

    def __aiter__(self) -> "_Reader":
        return self

    async def __anext__(self) -> Fact:
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return FactsMissed(self._queue[0].at, missed)
        return self._queue.popleft()

    def put(self, fact: Fact) -> None:
        if len(self._queue) == self._queue.maxlen:
            self._missed += 1
        self._queue.append(fact)
        self._ready.set()

    def end(self) -> None:
        self._ended = True
        self._ready.set()

"""One versioned, opaque record per node, known to all: newest wins, and only the owner writes.

A record is pushed to all peers when it is published; what a push missed is found by digests (owner and version of
everything held), exchanged when a link opens and with a random peer from time to time. Whoever receives a digest
sends what it holds in a newer version and asks for what it lacks, third-party records included, so that a record
reaches nodes to which its owner has no link. A digest covers a range of owners in sorted order: pages stay small, and
an owner that is missing from a page is known to be missing.

The version is (generation, counter): a restarted owner outranks its former life. Versions only rise, so a record
needs no clock, and any order of messages gives the same end.

The driver's duties, in order:

1. `PeerUp` when a link to a peer on which messages can be sent has opened (again); `PeerGone` when membership says
   that it is dead, left or forgotten. A peer that is gone is not listened to, and its record is hidden, until it is up.
2. Carry out the effects; `Send` never waits and may fail.
3. Call `handle(Tick(), now)` when `next_deadline()` has come.
"""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from typing import Final, assert_never

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId
from topologies.swim.interface import Tick

__all__ = (
    "Digest",
    "PeerGone",
    "PeerUp",
    "Publish",
    "Push",
    "Record",
    "RecordChanged",
    "RecordReceived",
    "RecordSend",
    "Records",
    "RecordsEffect",
    "RecordsInput",
    "RecordsMessage",
    "RecordsSettings",
    "RecordsStats",
    "Version",
    "Want",
    "decode",
    "encode",
)

Version = tuple[int, int]  # (boot generation, counter), compared as a tuple
_VERSION_PART_MAX: Final = 2**53
_ID_MAX: Final = 256

# -- messages


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one node says of itself."""

    owner: NodeId
    version: Version
    payload: bytes


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """All that the sender holds of owners with after < owner <= upto; an empty `upto` is the end."""

    after: NodeId
    upto: NodeId
    versions: Mapping[NodeId, Version]


class Want(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Send me these."""

    owners: tuple[NodeId, ...]


class Push(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Here they are."""

    records: tuple[Record, ...]


RecordsMessage = Digest | Want | Push

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[RecordsMessage] = msgspec.msgpack.Decoder(RecordsMessage)


def encode(message: RecordsMessage) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> RecordsMessage:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: They hold none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"no records message: {error}; expected Digest, Want or Push") from error


# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """This is our record from now on."""

    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class RecordReceived:
    """A message came in."""

    sender: NodeId
    message: RecordsMessage


@dataclasses.dataclass(frozen=True, slots=True)
class PeerUp:
    """A link to this peer has opened."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class PeerGone:
    """It is dead, has left, or is forgotten."""

    peer: NodeId


RecordsInput = Publish | RecordReceived | PeerUp | PeerGone | Tick

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class RecordSend:
    """Send to `peer` if there is a way to it; may be lost."""

    peer: NodeId
    message: RecordsMessage


@dataclasses.dataclass(frozen=True, slots=True)
class RecordChanged:
    """Another node's record is this now; None: it is gone."""

    owner: NodeId
    version: Version
    payload: bytes | None


RecordsEffect = RecordSend | RecordChanged


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordsSettings:
    """Bounds and pace.

    Attributes:
        sync_interval_s: A digest goes to one random peer this often, jittered by a quarter. It repairs what pushes
            lost; shorter costs about 40 bytes per record held each time.
        record_bytes_max: Longest payload, ours and others'.
        records_max: Records held.
        total_bytes_max: Bytes held in all payloads.
        digest_owners_max: Owners a digest page.
        message_bytes_max: Payload bytes in one Push, unless a single record is longer.
        answer_bytes_max: Payload bytes sent in answer to one digest page; the rest follows with the next.
    """

    sync_interval_s: float = 5.0
    record_bytes_max: int = 64 * 1024
    records_max: int = 16384
    total_bytes_max: int = 64 * 1024 * 1024
    digest_owners_max: int = 512
    message_bytes_max: int = 64 * 1024
    answer_bytes_max: int = 1024 * 1024

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class RecordsStats:
    """Sizes, and counters since the start."""

    records: int
    payload_bytes: int
    pushed: int
    ignored: int  # too long, absurd, from or about somebody who is gone, or the table was full


class Records:
    """One node's copy of all records.

    Args:
        me: Our node id.
        generation: Our boot generation: the first half of our versions.
        settings: See there.
        rng: For the choice of peers and the jitter.
    """

    def __init__(self, me: NodeId, generation: int, settings: RecordsSettings, rng: random.Random) -> None:
        self._me = me
        self._version: Version = (generation, 0)
        self._settings = settings
        self._rng = rng
        self._held: dict[NodeId, Record] = {}
        self._held_bytes = 0
        self._peers: dict[NodeId, None] = {}
        self._gone: dict[NodeId, None] = {}
        self._sync_at = 0.0
        self._out: list[RecordsEffect] = []
        self._pushed_count = self._ignored_count = 0

    def get(self, owner: NodeId) -> Record | None:
        """The record of a node that is not gone, or our own."""
        return self._held.get(owner)

    def stats(self) -> RecordsStats:
        return RecordsStats(len(self._held), self._held_bytes, self._pushed_count, self._ignored_count)

    def handle(self, input: RecordsInput, now: float) -> list[RecordsEffect]:
        """Take in one input; returns what to do, in this order.

        Raises:
            ValueError: Our own record is longer than `record_bytes_max`.
        """
        match input:
            case Publish(payload):
                self._on_publish(payload)
            case RecordReceived(sender, message):
                self._on_received(sender, message)
            case PeerUp(peer):
                self._on_peer_up(peer, now)
            case PeerGone(peer):
                self._on_peer_gone(peer)
            case Tick():
                if self._peers and now >= self._sync_at:
                    self._sync_at = now + self._pause_s()
                    self._send_digests(self._rng.choice(list(self._peers)))
            case _:
                assert_never(input)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        return self._sync_at if self._peers else None

    # -- inputs

    def _on_publish(self, payload: bytes) -> None:
        if len(payload) > self._settings.record_bytes_max:
            raise ValueError(
                f"own record of {len(payload)} bytes exceeds record_bytes_max={self._settings.record_bytes_max}; "
                "offer fewer names on this node, or raise it on every node"
            )
        own = self._held.get(self._me)
        if own is not None and own.payload == payload:
            return
        self._publish_above(self._version, payload)

    def _publish_above(self, version: Version, payload: bytes) -> None:
        self._version = (version[0], version[1] + 1)
        record = Record(self._me, self._version, payload)
        self._hold(record)
        for peer in self._peers:
            self._push(peer, [record])

    def _on_peer_up(self, peer: NodeId, now: float) -> None:
        self._gone.pop(peer, None)
        if not self._peers:
            self._sync_at = now + self._pause_s()
        self._peers[peer] = None
        self._send_digests(peer)

    def _on_peer_gone(self, peer: NodeId) -> None:
        self._peers.pop(peer, None)
        self._gone.pop(peer, None)
        if len(self._gone) >= self._settings.records_max:
            del self._gone[next(iter(self._gone))]
        self._gone[peer] = None
        record = self._held.pop(peer, None)
        if record is not None:
            self._held_bytes -= len(record.payload)
            self._out.append(RecordChanged(peer, record.version, None))

    def _on_received(self, sender: NodeId, message: RecordsMessage) -> None:
        if sender in self._gone or sender == self._me:
            self._ignored_count += 1
            return
        match message:
            case Push(records):
                for record in records:
                    self._on_record(record)
            case Digest():
                self._on_digest(sender, message)
            case Want(owners):
                found = (self._held.get(owner) for owner in dict.fromkeys(owners))
                self._push(sender, [record for record in found if record is not None])
            case _:
                assert_never(message)

    def _on_record(self, record: Record) -> None:
        if record.owner == self._me:
            self._on_own_record(record)
            return
        held = self._held.get(record.owner)
        if held is not None and record.version <= held.version:
            return
        growth = len(record.payload) - (len(held.payload) if held is not None else 0)
        if (
            record.owner in self._gone
            or not self._sane(record)
            or (held is None and len(self._held) >= self._settings.records_max)
            or self._held_bytes + growth > self._settings.total_bytes_max
        ):
            self._ignored_count += 1
            return
        self._hold(record)
        self._out.append(RecordChanged(record.owner, record.version, record.payload))

    def _on_own_record(self, heard: Record) -> None:
        """A later record of ours than we know of: our data directory was restored. Go above it."""
        if heard.version <= self._version:
            return
        if not self._sane(heard) or heard.version[1] >= _VERSION_PART_MAX:
            self._ignored_count += 1
            return
        own = self._held.get(self._me)
        self._version = heard.version
        if own is not None:
            self._publish_above(heard.version, own.payload)

    def _on_digest(self, sender: NodeId, digest: Digest) -> None:
        newer = [
            record
            for record in self._range(digest.after, digest.upto)
            if record.owner != sender and record.version > digest.versions.get(record.owner, (-1, -1))
        ]
        self._push(sender, newer)
        wanted = [owner for owner, version in digest.versions.items() if self._lacks(owner, version)]
        if wanted:
            self._send(sender, Want(tuple(wanted[: self._settings.records_max])))

    # -- what follows from them

    def _lacks(self, owner: NodeId, version: Version) -> bool:
        if owner in self._gone:
            return False
        if owner == self._me:
            return version > self._version
        held = self._held.get(owner)
        return held is None or held.version < version

    def _sane(self, record: Record) -> bool:
        return (
            0 < len(record.owner) <= _ID_MAX
            and len(record.payload) <= self._settings.record_bytes_max
            and all(0 <= part <= _VERSION_PART_MAX for part in record.version)
        )

    def _hold(self, record: Record) -> None:
        former = self._held.get(record.owner)
        self._held_bytes += len(record.payload) - (len(former.payload) if former is not None else 0)
        self._held[record.owner] = record

    def _range(self, after: NodeId, upto: NodeId) -> Iterator[Record]:
        for owner, record in self._held.items():
            if after < owner and (not upto or owner <= upto):
                yield record

    def _send_digests(self, peer: NodeId) -> None:
        owners = sorted(self._held)
        size = self._settings.digest_owners_max
        pages = [owners[start : start + size] for start in range(0, len(owners), size)] or [[]]
        after = NodeId("")
        for page in pages:
            upto = NodeId("") if page is pages[-1] else page[-1]
            self._send(peer, Digest(after, upto, {owner: self._held[owner].version for owner in page}))
            after = upto

    def _push(self, peer: NodeId, records: list[Record]) -> None:
        """Send records in messages of bounded size, up to the bound of one answer."""
        batch: list[Record] = []
        batch_bytes = sent_bytes = 0
        for record in records:
            size = len(record.payload)
            if sent_bytes + size > self._settings.answer_bytes_max and sent_bytes:
                break
            if batch and batch_bytes + size > self._settings.message_bytes_max:
                self._send(peer, Push(tuple(batch)))
                batch, batch_bytes = [], 0
            batch.append(record)
            batch_bytes += size
            sent_bytes += size
            self._pushed_count += 1
        if batch:
            self._send(peer, Push(tuple(batch)))

    def _pause_s(self) -> float:
        return self._settings.sync_interval_s * self._rng.uniform(0.75, 1.25)

    def _send(self, peer: NodeId, message: RecordsMessage) -> None:
        self._out.append(RecordSend(peer, message))

"""Anti-entropy: what broadcasts missed is found by comparing whole replicas, at a cost that follows what differs.

The problem: gossip and broadcast trees reach almost everybody almost always. Whoever was cut off, or started later, or
lost a message that nobody kept, must end up with the same data all the same, and to copy everything to be sure would
cost in proportion to what is equal. Two replicas compare the digests of their Merkle trees (`tree`) instead, from the
root into the parts that differ, list the few keys there, and exchange the later versions.

A round has no memory: each message is answered from what it says and what is held now (`Compare` by digests one level
below or by a `Listing`; a `Listing` by the entries that the other lacks and a `Want` of those that we lack). A lost
message ends a round and nothing else, rounds with several peers do not disturb one another, and what changes meanwhile
is found in the next one. How many entries one message can make us send is bounded; a round that met the bound is
followed by another at once.

Invariants: an entry is only ever replaced by one that supersedes it (`messages.supersedes`), which all replicas decide
alike; so replicas that compare often enough are equal once nothing changes any more, in whatever order they met.

The driver's duties, in order:

1. `Put` each entry that is written here or comes by another way (a broadcast), `Peers` as members come and go.
2. `Sync` with a peer that was just met, or that is known to have something (`Missed` of Plumtree).
3. Carry out the effects in their order; `AntiEntropySend` is bulk. `EntryChanged` is for whoever uses the data.
4. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
"""

import random
from collections.abc import Iterable, Mapping
from typing import TypeVar, assert_never

from topologies.anti_entropy.interface import (
    AntiEntropyEffect,
    AntiEntropyInput,
    AntiEntropyReceived,
    AntiEntropySend,
    AntiEntropyStats,
    Drop,
    EntryChanged,
    Peers,
    Put,
    Sync,
)
from topologies.anti_entropy.messages import (
    Compare,
    Entries,
    Entry,
    Listing,
    Message,
    Summary,
    Want,
    is_sane,
    supersedes,
)
from topologies.anti_entropy.settings import AntiEntropySettings
from topologies.anti_entropy.tree import DEPTH, MerkleTree, digest_of
from topologies.identity import NodeId
from topologies.swim.interface import Tick

__all__ = ("AntiEntropy",)

_Part = TypeVar("_Part")


class AntiEntropy:
    """One replica: a map of versioned entries that repairs itself from its peers.

    Args:
        settings: See there.
        rng: Seeded by the driver; the only source of chance.
    """

    def __init__(self, settings: AntiEntropySettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._tree = MerkleTree()
        self._values: dict[bytes, bytes] = {}
        self._peers: list[NodeId] = []
        self._round_at: float | None = None
        self._again: dict[NodeId, float] = {}  # peers with whom a round did not get to everything
        self._now = 0.0
        self._out: list[AntiEntropyEffect] = []
        self._rounds = self._parts = self._taken = self._given = self._deferred = self._ignored = 0

    def handle(self, input: AntiEntropyInput, now: float) -> list[AntiEntropyEffect]:
        """Take in one input.

        Raises:
            ValueError: An entry to put is too large, or there is no room for another key.
        """
        self._now = now
        match input:
            case AntiEntropyReceived(sender, message):
                self._on_message(sender, message)
            case Put(entry):
                self._put(entry)
            case Drop(key):
                self._tree.remove(key)
                self._values.pop(key, None)
            case Peers(peers):
                self._peers = sorted(peers)
                self._again = {peer: at for peer, at in self._again.items() if peer in peers}
                if self._round_at is None or not peers:
                    self._round_at = self._next_round() if peers else None
            case Sync(peer):
                self._begin(peer)
            case Tick():
                self._on_tick()
            case _:
                assert_never(input)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        deadlines = [*self._again.values()] if self._round_at is None else [self._round_at, *self._again.values()]
        return min(deadlines, default=None)

    def get(self, key: bytes) -> Entry | None:
        """What is held of a key."""
        summary = self._tree.get(key)
        return None if summary is None else self._entry(summary)

    def entries(self) -> Mapping[bytes, Entry]:
        """Everything, as a new map."""
        return {summary.key: self._entry(summary) for summary in self._tree.summaries("")}

    def root(self) -> bytes:
        """The digest of everything: replicas with equal roots hold the same."""
        return self._tree.digest("")

    def stats(self) -> AntiEntropyStats:
        return AntiEntropyStats(
            entries=len(self._tree),
            rounds=self._rounds,
            parts=self._parts,
            taken=self._taken,
            given=self._given,
            deferred=self._deferred,
            ignored=self._ignored,
        )

    # -- rounds

    def _on_tick(self) -> None:
        for peer in [peer for peer, at in self._again.items() if at <= self._now]:
            self._begin(peer)
        if self._round_at is not None and self._round_at <= self._now:
            self._round_at = self._next_round()
            self._begin(self._rng.choice(self._peers))

    def _begin(self, peer: NodeId) -> None:
        self._rounds += 1
        self._again.pop(peer, None)
        self._send(peer, Compare((("", self.root()),)))

    def _next_round(self) -> float:
        return self._now + self._settings.interval_s * self._rng.uniform(0.75, 1.25)

    # -- messages

    def _on_message(self, sender: NodeId, message: Message) -> None:
        match message:
            case Compare(parts):
                self._on_compare(sender, parts)
            case Listing(parts):
                self._on_listing(sender, parts)
            case Want(keys):
                held = (self._tree.get(key) for key in keys[: self._parts_and_their_entries_max])
                self._give(sender, [summary for summary in held if summary is not None])
            case Entries(entries):
                for entry in entries:
                    self._take(sender, entry)
            case _:
                assert_never(message)

    def _on_compare(self, sender: NodeId, parts: tuple[tuple[str, bytes], ...]) -> None:
        tree, settings = self._tree, self._settings
        deeper: list[tuple[str, bytes]] = []
        listed: list[tuple[str, tuple[Summary, ...]]] = []
        for part, digest in self._bounded(sender, parts):
            if not tree.is_part(part):
                self._ignored += 1
            elif tree.digest(part) != digest:
                self._parts += 1
                if len(part) == DEPTH or tree.count(part) <= settings.list_entries_max:
                    listed.append((part, tuple(tree.summaries(part))))
                else:
                    deeper += ((child, tree.digest(child)) for child in tree.children(part))
        for start in range(0, len(deeper), settings.parts_max):
            self._send(sender, Compare(tuple(deeper[start : start + settings.parts_max])))
        if listed:
            self._send(sender, Listing(tuple(listed)))

    def _on_listing(self, sender: NodeId, parts: tuple[tuple[str, tuple[Summary, ...]], ...]) -> None:
        """Give what is later here, or not there; ask for what is later there, or not here."""
        give: list[Summary] = []
        want: list[bytes] = []
        for part, theirs in self._bounded(sender, parts):
            if not self._tree.is_part(part):
                self._ignored += 1
                continue
            said = {summary.key: summary for summary in theirs}
            for mine in self._tree.summaries(part):
                other = said.pop(mine.key, None)
                if other is None or supersedes(mine.version, mine.digest, other.version, other.digest):
                    give.append(mine)
                elif other.version != mine.version or other.digest != mine.digest:
                    want.append(mine.key)
            want += said
        most = self._parts_and_their_entries_max
        if len(give) > most or len(want) > most:
            self._defer(sender)
        self._give(sender, give[:most])
        if want:
            self._send(sender, Want(tuple(want[:most])))

    @property
    def _parts_and_their_entries_max(self) -> int:
        return self._settings.parts_max * self._settings.list_entries_max

    def _bounded(self, sender: NodeId, parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
        if len(parts) > self._settings.parts_max:
            self._defer(sender)
        return parts[: self._settings.parts_max]

    def _defer(self, peer: NodeId) -> None:
        self._deferred += 1
        if peer in self._peers:
            self._again.setdefault(peer, self._now + self._settings.pause_s)

    # -- entries

    def _put(self, entry: Entry) -> None:
        flaw = self._flaw(entry)
        if flaw is not None:
            raise ValueError(flaw)
        self._hold(entry)

    def _take(self, sender: NodeId, entry: Entry) -> None:
        if self._flaw(entry) is not None:
            self._ignored += 1
        elif self._hold(entry):
            self._taken += 1
            self._out.append(EntryChanged(entry, sender))

    def _hold(self, entry: Entry) -> bool:
        """Whether this is news."""
        digest = digest_of(entry.value)
        held = self._tree.get(entry.key)
        if held is not None and not supersedes(entry.version, digest, held.version, held.digest):
            return False
        self._tree.put(entry.key, entry.version, digest)
        self._values[entry.key] = entry.value
        return True

    def _flaw(self, entry: Entry) -> str | None:
        settings = self._settings
        size = len(entry.key) + len(entry.value)
        if size > settings.entry_bytes_max:
            return (
                f"an entry of {size} bytes exceeds entry_bytes_max={settings.entry_bytes_max}; "
                "keep where it can be fetched instead"
            )
        if not is_sane(entry.version):
            return f"version {entry.version} is out of range; its parts go from 0 to 2**63 - 1"
        if len(self._tree) >= settings.entries_max and entry.key not in self._values:
            return f"there are entries_max={settings.entries_max} entries; drop some, or raise it on every node"
        return None

    def _give(self, peer: NodeId, summaries: Iterable[Summary]) -> None:
        waiting: list[Entry] = []
        size = 0
        for summary in summaries:
            entry = self._entry(summary)
            self._given += 1
            waiting.append(entry)
            size += len(entry.key) + len(entry.value)
            if size >= self._settings.message_bytes_max:
                self._send(peer, Entries(tuple(waiting)))
                waiting, size = [], 0
        if waiting:
            self._send(peer, Entries(tuple(waiting)))

    def _entry(self, summary: Summary) -> Entry:
        return Entry(summary.key, summary.version, self._values[summary.key])

    def _send(self, peer: NodeId, message: Message) -> None:
        self._out.append(AntiEntropySend(peer, message))

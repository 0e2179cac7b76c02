import random

import pytest

from topologies.anti_entropy import (
    AntiEntropy,
    AntiEntropyReceived,
    AntiEntropySend,
    AntiEntropySettings,
    Drop,
    Entry,
    EntryChanged,
    Peers,
    Put,
    Sync,
    encode,
)
from topologies.anti_entropy.messages import Compare, Entries, Listing, Summary, Want
from topologies.identity import NodeId
from topologies.swim import Tick

A, B = NodeId("a"), NodeId("b")


class Net:
    """Replicas, and what is on its way between them."""

    def __init__(self, *names, seed=1, loss=0.0, settings=None):
        self.rng = random.Random(seed)
        self.loss = loss
        self.replicas = {NodeId(it): AntiEntropy(settings or AntiEntropySettings(), self.rng) for it in names}
        self.bytes = self.messages = 0
        self.changed = []
        self.now = 0.0

    def put(self, name, *entries):
        for entry in entries:
            assert self.replicas[name].handle(Put(entry), self.now) == []

    def connect(self):
        for name, replica in self.replicas.items():
            self.carry_out(name, replica.handle(Peers(frozenset(self.replicas) - {name}), self.now))

    def sync(self, one, other):
        self.carry_out(one, self.replicas[one].handle(Sync(other), self.now))

    def carry_out(self, name, effects):
        waiting = [(name, effect) for effect in effects]
        while waiting:
            sender, effect = waiting.pop(0)
            if isinstance(effect, EntryChanged):
                self.changed.append((sender, effect.entry))
                continue
            self.messages += 1
            self.bytes += len(encode(effect.message))
            if self.rng.random() >= self.loss:
                more = self.replicas[effect.peer].handle(AntiEntropyReceived(sender, effect.message), self.now)
                waiting += [(effect.peer, it) for it in more]

    def run(self, seconds):
        until = self.now + seconds
        while True:
            asked = [(it.next_deadline(), name) for name, it in self.replicas.items()]
            due = [(at, name) for at, name in asked if at is not None and at <= until]
            if not due:
                self.now = until
                return
            at, name = min(due)
            self.now = max(self.now, at)
            self.carry_out(name, self.replicas[name].handle(Tick(), self.now))

    def roots(self):
        return {replica.root() for replica in self.replicas.values()}


def entry(number, version=1, value=b""):
    return Entry(b"key %d" % number, (version, 0), value or b"value %d of version %d" % (number, version))


def test_equal_replicas_say_so_in_one_message():
    net = Net("a", "b")
    for name in (A, B):
        net.put(name, *map(entry, range(100)))
    net.sync(A, B)
    assert (net.messages, net.changed) == (1, [])


def test_each_gets_what_the_other_has_and_the_later_of_both():
    net = Net("a", "b")
    net.put(A, entry(1), entry(2, 5), entry(3, 1))
    net.put(B, entry(2, 1), entry(3, 7), entry(4))
    net.sync(A, B)
    assert net.roots() == {net.replicas[A].root()}
    for replica in net.replicas.values():
        assert replica.entries() == {it.key: it for it in (entry(1), entry(2, 5), entry(3, 7), entry(4))}
    assert sorted((name, it.key) for name, it in net.changed) == [
        ("a", b"key 3"), ("a", b"key 4"), ("b", b"key 1"), ("b", b"key 2"),
    ]  # fmt: skip


def test_two_values_of_one_version_end_up_as_one():
    net = Net("a", "b")
    net.put(A, entry(1, 1, b"red"))
    net.put(B, entry(1, 1, b"blue"))
    net.sync(B, A)
    assert len(net.roots()) == 1
    assert net.replicas[A].get(b"key 1") == net.replicas[B].get(b"key 1")
    assert net.replicas[A].get(b"other") is None


@pytest.mark.parametrize("differing", [1, 10, 100])
def test_the_cost_follows_what_differs_and_not_what_is_equal(differing):
    """About 16 digests on each of log16(n) levels for each difference, against a full copy of 0.3 MB."""
    count = 6_000
    net = Net("a", "b")
    for name in (A, B):
        net.put(name, *map(entry, range(count)))
    net.put(B, *(entry(number * 59, 2) for number in range(differing)))
    net.sync(A, B)
    assert len(net.roots()) == 1
    assert len(net.changed) == differing
    assert net.bytes < 500 + 1700 * differing
    assert net.bytes < 0.3 * sum(len(encode(Entries((it,)))) for it in net.replicas[A].entries().values())


def test_a_new_replica_is_filled_within_bounds():
    settings = AntiEntropySettings(parts_max=16, list_entries_max=4, message_bytes_max=500)
    net = Net("a", "b", settings=settings)
    net.put(A, *map(entry, range(1000)))
    net.connect()
    net.sync(B, A)
    assert 0 < len(net.changed) < 1000
    net.run(5.0)  # further rounds follow at once
    assert len(net.roots()) == 1
    assert net.replicas[A].stats().deferred > 0
    assert net.replicas[B].stats().taken == 1000


@pytest.mark.parametrize("seed", range(5))
def test_replicas_that_miss_a_third_of_all_messages_become_equal(seed):
    names = [NodeId(name) for name in "abcdef"]
    net = Net(*names, seed=seed, loss=0.3)
    rng = random.Random(seed)
    for number in range(300):
        net.put(rng.choice(names), entry(number, rng.randrange(1, 4)), entry(number % 20, number))
    net.connect()
    net.run(400.0)
    assert len(net.roots()) == 1
    contents = [replica.entries() for replica in net.replicas.values()]
    assert all(it == contents[0] for it in contents)  # not only their digests
    assert len(contents[0]) == 300


def test_a_key_that_one_dropped_comes_back_from_the_other():
    net = Net("a", "b")
    for name in (A, B):
        net.put(name, entry(1))
    net.replicas[A].handle(Drop(b"key 1"), 0.0)
    assert net.replicas[A].get(b"key 1") is None
    net.sync(A, B)
    assert net.replicas[A].get(b"key 1") == entry(1)


def test_rounds_come_while_there_are_peers():
    replica = AntiEntropy(AntiEntropySettings(), random.Random(1))
    assert replica.next_deadline() is None
    replica.handle(Peers(frozenset({A})), 100.0)
    due = replica.next_deadline()
    assert due is not None
    assert 107.5 <= due <= 112.5
    (effect,) = replica.handle(Tick(), due)
    assert effect == AntiEntropySend(A, Compare((("", bytes(16)),)))
    replica.handle(Peers(frozenset()), due)
    assert replica.next_deadline() is None


def test_what_does_not_fit_is_refused_here_and_ignored_from_others():
    settings = AntiEntropySettings(entry_bytes_max=20, entries_max=1)
    replica = AntiEntropy(settings, random.Random(1))
    with pytest.raises(ValueError, match="exceeds entry_bytes_max=20"):
        replica.handle(Put(entry(1, 1, b"x" * 30)), 0.0)
    with pytest.raises(ValueError, match="out of range"):
        replica.handle(Put(Entry(b"", (-1, 0), b"")), 0.0)
    replica.handle(Put(Entry(b"1", (1, 0), b"")), 0.0)
    with pytest.raises(ValueError, match="entries_max=1"):
        replica.handle(Put(Entry(b"2", (1, 0), b"")), 0.0)
    wrong = (Entry(b"1", (2, 0), b"y" * 30), Entry(b"2", (1, 0), b""), Entry(b"1", (2**64, 0), b""))
    assert replica.handle(AntiEntropyReceived(A, Entries(wrong)), 0.0) == []
    assert replica.stats().ignored == 3
    assert replica.handle(AntiEntropyReceived(A, Entries((Entry(b"1", (2, 0), b"ok"),))), 0.0) != []


def test_hostile_messages_cost_little():
    settings = AntiEntropySettings(parts_max=4, list_entries_max=2)
    replica = AntiEntropy(settings, random.Random(1))
    for number in range(100):
        replica.handle(Put(entry(number)), 0.0)
    nonsense = tuple((part, b"") for part in ("x", "beef0", "A", ""))
    assert len(replica.handle(AntiEntropyReceived(A, Compare(nonsense)), 0.0)) == 4  # 16 children of the root, by four
    assert replica.stats().ignored == 3
    many = tuple(b"key %d" % number for number in range(100))
    (effect,) = replica.handle(AntiEntropyReceived(A, Want(many)), 0.0)
    assert isinstance(effect, AntiEntropySend)
    assert isinstance(effect.message, Entries)
    assert len(effect.message.entries) == 8
    wishes = Listing((("", tuple(Summary(b"%d" % number, (1, 0), b"") for number in range(100))),))
    given, want = replica.handle(AntiEntropyReceived(A, wishes), 0.0)
    assert isinstance(given, AntiEntropySend)
    assert isinstance(want, AntiEntropySend)
    assert isinstance(want.message, Want)
    assert len(want.message.keys) == 8
    assert replica.handle(AntiEntropyReceived(A, Listing((("?", ()),))), 0.0) == []

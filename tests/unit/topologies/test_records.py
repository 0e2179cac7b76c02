import random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId
from topologies.records import (
    Digest,
    PeerGone,
    PeerUp,
    Publish,
    Push,
    Record,
    RecordChanged,
    RecordReceived,
    Records,
    RecordSend,
    RecordsSettings,
    Want,
    decode,
    encode,
)
from topologies.swim import Tick

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ALL = (NodeId(""), NodeId(""))


def make(me=A, generation=1, seed=1, **settings):
    return Records(me, generation, RecordsSettings(**settings), random.Random(seed))


def push(*records):
    return Push(tuple(records))


def settle(*nodes):
    """Connect all with all and carry messages until there are none."""
    by_id = {node._me: node for node in nodes}
    queue = []
    for node in nodes:
        for peer in by_id:
            if peer != node._me:
                queue += [(node._me, effect) for effect in node.handle(PeerUp(peer), 0.0)]
    carried = 0
    while queue:
        sender, effect = queue.pop(0)
        if isinstance(effect, RecordSend):
            carried += 1
            message = decode(encode(effect.message))
            queue += [(effect.peer, it) for it in by_id[effect.peer].handle(RecordReceived(sender, message), 0.0)]
    return carried


def test_a_publication_is_pushed_to_all_peers():
    node = make()
    node.handle(PeerUp(B), 0.0)
    node.handle(PeerUp(C), 0.0)
    message = push(Record(A, (1, 1), b"x"))
    assert node.handle(Publish(b"x"), 0.0) == [RecordSend(B, message), RecordSend(C, message)]


def test_the_same_again_is_no_publication():
    node = make()
    node.handle(PeerUp(B), 0.0)
    node.handle(Publish(b"x"), 0.0)
    assert node.handle(Publish(b"x"), 0.0) == []


def test_an_own_record_too_long_is_the_callers_mistake():
    with pytest.raises(ValueError, match="record_bytes_max=4"):
        make(record_bytes_max=4).handle(Publish(b"12345"), 0.0)


def test_newest_wins_whatever_the_order():
    node = make()
    assert node.handle(RecordReceived(B, push(Record(B, (1, 2), b"new"))), 0.0) == [RecordChanged(B, (1, 2), b"new")]
    assert node.handle(RecordReceived(B, push(Record(B, (1, 1), b"old"))), 0.0) == []
    assert node.handle(RecordReceived(B, push(Record(B, (2, 1), b"next life"))), 0.0) == [
        RecordChanged(B, (2, 1), b"next life")
    ]


def test_a_link_that_opens_begins_with_a_digest():
    node = make()
    node.handle(Publish(b"x"), 0.0)
    assert node.handle(PeerUp(B), 0.0) == [RecordSend(B, Digest(*ALL, {A: (1, 1)}))]


def test_a_digest_is_answered_with_what_is_newer_and_asked_for_what_is_lacking():
    node = make()
    node.handle(Publish(b"mine"), 0.0)
    node.handle(RecordReceived(C, push(Record(C, (1, 5), b"third party"))), 0.0)
    effects = node.handle(RecordReceived(B, Digest(*ALL, {B: (1, 1), C: (1, 4)})), 0.0)
    assert effects == [
        RecordSend(B, push(Record(A, (1, 1), b"mine"), Record(C, (1, 5), b"third party"))),
        RecordSend(B, Want((B,))),
    ]


def test_a_want_is_answered_with_what_is_held():
    node = make()
    node.handle(Publish(b"mine"), 0.0)
    assert node.handle(RecordReceived(B, Want((A, A, C))), 0.0) == [RecordSend(B, push(Record(A, (1, 1), b"mine")))]


def test_a_digest_of_a_range_says_nothing_of_the_rest():
    node = make(NodeId("m"))
    for owner in "bdf":
        node.handle(RecordReceived(B, push(Record(NodeId(owner), (1, 1), b""))), 0.0)
    effects = node.handle(RecordReceived(NodeId("z"), Digest(NodeId("b"), NodeId("d"), {})), 0.0)
    assert effects == [RecordSend(NodeId("z"), push(Record(NodeId("d"), (1, 1), b"")))]


@pytest.mark.parametrize("size", [1, 3, 512])
def test_all_end_up_with_all_records_through_one_in_the_middle(size):
    nodes = [make(NodeId(name), digest_owners_max=size) for name in "abcdefg"]
    for node in nodes:
        node.handle(Publish(node._me.encode()), 0.0)
    middle = nodes[0]
    for other in nodes[1:]:
        settle(middle, other)
    settle(middle, nodes[1])
    assert {owner: record.payload for owner, record in nodes[1]._held.items()} == {
        NodeId(name): name.encode() for name in "abcdefg"
    }


def test_who_is_gone_takes_its_record_along():
    node = make()
    node.handle(RecordReceived(B, push(Record(B, (1, 1), b"x"))), 0.0)
    assert node.handle(PeerGone(B), 0.0) == [RecordChanged(B, (1, 1), None)]
    assert node.handle(PeerGone(B), 0.0) == []
    assert node.stats().records == 0
    assert node.stats().payload_bytes == 0


def test_a_record_of_one_that_is_gone_is_neither_taken_nor_asked_for():
    node = make()
    node.handle(PeerGone(B), 0.0)
    assert node.handle(RecordReceived(C, push(Record(B, (1, 1), b"x"))), 0.0) == []
    assert node.handle(RecordReceived(C, Digest(*ALL, {B: (1, 1)})), 0.0) == []
    assert node.handle(RecordReceived(B, push(Record(B, (1, 2), b"x"))), 0.0) == []
    assert node.stats().ignored == 2


def test_who_comes_back_brings_its_record_back():
    ours, theirs = make(A), make(B)
    theirs.handle(Publish(b"x"), 0.0)
    settle(ours, theirs)
    ours.handle(PeerGone(B), 0.0)
    settle(ours, theirs)
    record = ours.get(B)
    assert record is not None
    assert record.payload == b"x"


def test_a_later_record_of_ours_than_we_know_is_outdone():
    node = make()
    node.handle(PeerUp(B), 0.0)
    node.handle(Publish(b"now"), 0.0)
    effects = node.handle(RecordReceived(B, push(Record(A, (3, 7), b"from a lost disk"))), 0.0)
    assert effects == [RecordSend(B, push(Record(A, (3, 8), b"now")))]
    assert node.handle(RecordReceived(B, push(Record(A, (3, 8), b"echo"))), 0.0) == []


def test_before_the_first_publication_it_only_learns_how_high_to_go():
    node = make()
    node.handle(RecordReceived(B, push(Record(A, (3, 7), b"from a lost disk"))), 0.0)
    node.handle(Publish(b"now"), 0.0)
    own = node.get(A)
    assert own is not None
    assert own.version == (3, 8)


@pytest.mark.parametrize(
    "record",
    [
        Record(NodeId(""), (1, 1), b""),
        Record(NodeId("x" * 300), (1, 1), b""),
        Record(B, (1, -1), b""),
        Record(B, (1, 2**60), b""),
        Record(B, (1, 1), b"x" * 11),
        Record(A, (1, 2**60), b""),
    ],
)
def test_absurd_records_are_counted_and_dropped(record):
    node = make(record_bytes_max=10)
    assert node.handle(RecordReceived(C, push(record)), 0.0) == []
    assert node.stats().ignored == 1


def test_a_full_table_takes_no_new_owners_but_new_versions():
    node = make(records_max=1)
    node.handle(RecordReceived(B, push(Record(B, (1, 1), b""))), 0.0)
    assert node.handle(RecordReceived(C, push(Record(C, (1, 1), b""))), 0.0) == []
    assert node.handle(RecordReceived(B, push(Record(B, (1, 2), b"x"))), 0.0) == [RecordChanged(B, (1, 2), b"x")]


def test_all_payloads_together_are_bounded():
    node = make(total_bytes_max=10)
    node.handle(RecordReceived(B, push(Record(B, (1, 1), b"x" * 8))), 0.0)
    assert node.handle(RecordReceived(C, push(Record(C, (1, 1), b"x" * 3))), 0.0) == []
    assert node.stats().payload_bytes == 8


def test_pushes_are_split_and_an_answer_is_bounded():
    node = make(record_bytes_max=10, message_bytes_max=10, answer_bytes_max=20)
    for owner in "bcdef":
        node.handle(RecordReceived(B, push(Record(NodeId(owner), (1, 1), b"x" * 5))), 0.0)
    effects = node.handle(RecordReceived(NodeId("z"), Digest(*ALL, {})), 0.0)
    assert [len(effect.message.records) for effect in effects] == [2, 2]


def test_the_memory_of_those_gone_is_bounded():
    node = make(records_max=3)
    for index in range(10):
        node.handle(PeerGone(NodeId(f"n{index}")), 0.0)
    assert len(node._gone) == 3


def test_a_random_peer_gets_a_digest_from_time_to_time():
    node = make(sync_interval_s=4.0)
    assert node.next_deadline() is None
    node.handle(PeerUp(B), 0.0)
    due = node.next_deadline()
    assert due is not None
    assert 3.0 <= due <= 5.0
    assert node.handle(Tick(), due - 0.1) == []
    assert node.handle(Tick(), due) == [RecordSend(B, Digest(*ALL, {}))]
    node.handle(PeerGone(B), due)
    assert node.next_deadline() is None


def test_our_own_messages_are_not_for_us():
    assert make().handle(RecordReceived(A, Want((A,))), 0.0) == []


def test_messages_are_plain_arrays():
    assert msgpack.unpackb(encode(push(Record(B, (1, 2), b"x")))) == ["Push", [["b", [1, 2], b"x"]]]
    assert msgpack.unpackb(encode(Digest(A, B, {A: (1, 2)}))) == ["Digest", "a", "b", {"a": [1, 2]}]


@given(st.binary(max_size=64))
def test_no_bytes_get_through_as_anything_but_a_message(data):
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    make().handle(RecordReceived(B, message), 0.0)


@given(
    st.permutations(
        [Record(B, (1, 1), b"1"), Record(B, (1, 2), b"2"), Record(B, (2, 0), b"3"), Record(C, (1, 0), b"4")]
    )
)
def test_any_order_ends_the_same(records):
    node = make()
    for record in records:
        node.handle(RecordReceived(C, push(record)), 0.0)
    assert {owner: record.payload for owner, record in node._held.items()} == {B: b"3", C: b"4"}


def test_a_pace_of_zero_is_refused():
    with pytest.raises(ValueError, match="sync_interval_s"):
        RecordsSettings(sync_interval_s=0)

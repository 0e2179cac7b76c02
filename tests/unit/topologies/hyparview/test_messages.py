import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import RemoteProtocolError
from topologies.hyparview.messages import (
    Accept,
    Disconnect,
    Drained,
    ForwardJoin,
    Join,
    Neighbor,
    Peer,
    Priority,
    Reject,
    Shuffle,
    ShuffleReply,
    decode,
    encode,
    is_sane,
)
from topologies.identity import NodeId

PEER = Peer(NodeId("n1"), (2, 3), {"gossip": "tcp://h:1"})


@pytest.mark.parametrize(
    "message",
    [
        Join(1, PEER),
        ForwardJoin(1, PEER, 6),
        Neighbor(1, PEER, Priority.TRADE),
        Accept(1, 2, PEER),
        Accept(1, 2),
        Reject(2),
        Disconnect(2, PEER),
        Disconnect(2),
        Drained(2),
        Shuffle(1, PEER, 6, 7, (PEER, PEER)),
        ShuffleReply(7, (PEER,)),
    ],
)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message)) == message
    assert decode(msgspec.Raw(encode(message))) == message


def test_messages_are_plain_arrays_for_any_language():
    assert msgpack.unpackb(encode(Neighbor(1, PEER, Priority.HIGH))) == [
        "Neighbor",
        1,
        ["n1", [2, 3], {"gossip": "tcp://h:1"}],
        1,
    ]


def test_fields_that_later_versions_append_are_ignored_and_absent_ones_have_defaults():
    assert decode(msgpack.packb(["Disconnect", 2, None, "new"])) == Disconnect(2)
    assert decode(msgpack.packb(["Disconnect", 2])) == Disconnect(2)
    assert decode(msgpack.packb(["Join", 1, ["n1"]])) == Join(1, Peer(NodeId("n1")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(["Nonsense", 1]),
        msgpack.packb(["Neighbor", 1, ["n1"], 9]),
        msgpack.packb(["Join", "one", ["n1"]]),
        b"\x91" * 100_000,
        encode(Join(1, PEER))[:-3],
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(RemoteProtocolError, match="no HyParView message"):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


def test_a_sound_peer_is_sane():
    assert is_sane(PEER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"node": ""},
        {"node": "x" * 257},
        {"incarnation": (-1, 0)},
        {"incarnation": (0, 2**60)},
        {"endpoints": {str(index): "" for index in range(17)}},
        {"endpoints": {"gossip": "x" * 3000}},
    ],
)
def test_an_absurd_peer_is_found_out(wrong):
    assert not is_sane(msgspec.structs.replace(PEER, **wrong))

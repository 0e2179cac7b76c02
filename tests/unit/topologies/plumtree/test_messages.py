import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId
from topologies.plumtree.messages import (
    SHARED,
    Announcement,
    Gossip,
    Graft,
    IHave,
    MessageId,
    Prune,
    decode,
    encode,
    is_sane,
)

ROOT = NodeId("r")
ID = MessageId(ROOT, 1, 7)


@pytest.mark.parametrize(
    "message",
    [
        Gossip(ID, 3, b"payload", ROOT),
        IHave((Announcement(ID, 3, SHARED), Announcement(ID, 4, ROOT))),
        Graft(ROOT, ID),
        Graft(SHARED),
        Prune(SHARED),
    ],
)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message)) == message
    assert decode(msgspec.Raw(encode(message))) == message


def test_messages_are_plain_arrays_for_any_language():
    assert msgpack.unpackb(encode(Gossip(ID, 3, b"x", ROOT))) == ["Gossip", ["r", 1, 7], 3, b"x", "r"]
    assert msgpack.unpackb(encode(IHave((Announcement(ID, 3, SHARED),)))) == ["IHave", [[["r", 1, 7], 3, ""]]]


def test_fields_that_later_versions_append_are_ignored_and_absent_ones_have_defaults():
    assert decode(msgpack.packb(["Prune", "r", "new"])) == Prune(ROOT)
    assert decode(msgpack.packb(["Graft", "r"])) == Graft(ROOT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(["Nonsense", 1]),
        msgpack.packb(["Gossip", ["r", 1], 3, b""]),
        msgpack.packb(["Gossip", ["r", 1, 7], "three", b""]),
        b"\x91" * 100_000,
        encode(Gossip(ID, 3, b"payload", ROOT))[:-3],
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(RemoteProtocolError, match="no Plumtree message"):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


def test_a_sound_message_is_sane():
    assert is_sane(ID, 3, SHARED)
    assert is_sane(ID, 3, ROOT)


@pytest.mark.parametrize(
    ("id", "round", "tree"),
    [
        (ID, 3, NodeId("other")),  # a tree is of the root of its messages
        (ID, -1, SHARED),
        (ID, 2**16, SHARED),
        (MessageId(NodeId(""), 1, 1), 1, SHARED),
        (MessageId(NodeId("x" * 257), 1, 1), 1, SHARED),
        (MessageId(ROOT, -1, 1), 1, SHARED),
        (MessageId(ROOT, 1, 0), 1, SHARED),
        (MessageId(ROOT, 1, 2**60), 1, SHARED),
    ],
)
def test_an_absurd_message_is_found_out(id, round, tree):
    assert not is_sane(id, round, tree)

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId
from topologies.swim.messages import (
    COUNTER_MAX,
    GENERATION_MAX,
    Ack,
    Claim,
    Gossip,
    Ping,
    PingReq,
    PushPull,
    Status,
    decode,
    encode,
    flaw,
)

CLAIM = Claim(NodeId("n1"), (2, 3), Status.SUSPECT, "one", {"gossip": "tcp://h:1"}, {"zone": "a"}, NodeId("n2"), "slow")


@pytest.mark.parametrize(
    "message",
    [
        Ping(7, (CLAIM,)),
        PingReq(7, NodeId("n1"), (CLAIM,)),
        Ack(2**40, ()),
        Gossip((CLAIM, CLAIM)),
        PushPull((CLAIM,), True),
    ],
)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message)) == message
    assert decode(msgspec.Raw(encode(message))) == message


def test_messages_are_plain_arrays_for_any_language():
    assert msgpack.unpackb(encode(Ping(7, (CLAIM,)))) == [
        "Ping",
        7,
        [["n1", [2, 3], "suspect", "one", {"gossip": "tcp://h:1"}, {"zone": "a"}, "n2", "slow", 0.0]],
    ]


def test_fields_that_later_versions_append_are_ignored_and_absent_ones_have_defaults():
    assert decode(msgpack.packb(["Ack", 7, [], [], "new"])) == Ack(7)
    assert decode(msgpack.packb(["Ack", 7])) == Ack(7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(["Nonsense", 1]),
        msgpack.packb(["Ping", "seven"]),
        msgpack.packb(["Gossip", [["n1", [1, 0], "resting"]]]),
        msgpack.packb(["Gossip", [["n1", [1], "alive"]]]),
        b"\x91" * 100_000,
        encode(Ping(7, (CLAIM,)))[:-3],
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(RemoteProtocolError, match="no SWIM message"):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


def test_a_sound_claim_has_no_flaw():
    assert flaw(CLAIM) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"incarnation": (-1, 0)},
        {"incarnation": (1, -1)},
        {"incarnation": (GENERATION_MAX + 1, 0)},
        {"incarnation": (1, COUNTER_MAX + 1)},
        {"age_s": -1.0},
        {"age_s": float("nan")},
        {"age_s": float("inf")},
        {"subject": ""},
        {"subject": "x" * 257},
        {"by": "x" * 257},
        {"name": "x" * 257},
        {"reason": "x" * 1025},
        {"endpoints": {str(index): "" for index in range(17)}},
        {"tags": {str(index): "" for index in range(65)}},
        {"tags": {"x": "y" * 9000}},
    ],
)
def test_an_absurd_claim_is_found_out(wrong):
    assert flaw(msgspec.structs.replace(CLAIM, **wrong)) is not None

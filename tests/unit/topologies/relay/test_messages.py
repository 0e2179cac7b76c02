import msgspec
import pytest

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId
from topologies.relay.messages import RELAYS_MAX, Ask, Echo, Path, Probe, decode, encode

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


@pytest.mark.parametrize(
    "message",
    [Probe(7), Echo(7), Ask(7, C, 2), Ask(7, C, 2, (A,)), Path(7, C, False), Path(7, C, True, (B,), 1500)],
)
def test_what_is_said_is_read(message):
    assert decode(encode(message)) == message
    assert decode(msgspec.Raw(encode(message))) == message


def test_a_question_in_bytes():
    """The example of docs/spec/0001-wire.md, section 4.13."""
    assert encode(Ask(7, C, 2, (A,))).hex(" ") == "95 a3 41 73 6b 07 a1 63 02 91 a1 61"


@pytest.mark.parametrize(
    "said",
    [
        None,
        ["Probe"],
        ["Shout", 1],
        ["Probe", -1],
        ["Ask", 1, "", 1],
        ["Ask", 1, "n" * 257, 1],
        ["Ask", 1, "c", 0],
        ["Ask", 1, "c", RELAYS_MAX + 1],
        ["Path", 1, "c", True, ["r"] * (RELAYS_MAX + 1)],
        ["Path", 1, "c", True, [], -1],
        ["Path", 1, "c", True, [], 10**12],
    ],
)
def test_what_is_past_the_limits_is_no_message(said):
    with pytest.raises(RemoteProtocolError, match="no relay message"):
        decode(msgspec.msgpack.encode(said))


@pytest.mark.parametrize("data", [b"", b"\xc1", encode(Probe(1))[:-1], b"\x91" * 5000 + b"\xc0"])
def test_garbage_is_no_message(data):
    with pytest.raises(RemoteProtocolError, match="no relay message"):
        decode(data)

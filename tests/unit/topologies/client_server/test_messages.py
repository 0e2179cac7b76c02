import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.client_server.messages import Attach, Attached, Detach, Detached, Refused, decode, encode, is_sane
from topologies.errors import RemoteProtocolError

MESSAGES = [Attach(1, {"gossip": "tcp://a:1"}), Attached(2), Refused(3), Detach(4), Detached(5)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_what_is_said_is_understood(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize("data", [b"", b"\xc1", encode(Attached(1))[:-1], msgspec.msgpack.encode(["Stay", 1])])
def test_other_bytes_are_no_message(data):
    with pytest.raises(RemoteProtocolError, match="expected Attach"):
        decode(data)


def test_what_a_later_version_appends_is_ignored():
    assert decode(msgspec.msgpack.encode(["Attached", 7, "news"])) == Attached(7)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


def test_endpoints_have_bounds():
    assert is_sane({"gossip": "x" * 2000})
    assert not is_sane({"gossip": "x" * 2048})
    assert not is_sane({str(number): "" for number in range(17)})

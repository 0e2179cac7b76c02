import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.anti_entropy.messages import (
    Compare,
    Entries,
    Entry,
    Listing,
    Message,
    Summary,
    Want,
    decode,
    encode,
    is_sane,
    supersedes,
)
from topologies.errors import RemoteProtocolError

MESSAGES: list[Message] = [
    Compare((("", b"root"), ("a", b"part"))),
    Listing((("ab", (Summary(b"key", (1, 2), b"digest"),)),)),
    Want((b"key",)),
    Entries((Entry(b"key", (1, 2), b"value"),)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_what_is_said_is_understood(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize("data", [b"", b"\xc1", encode(MESSAGES[0])[:-1], msgspec.msgpack.encode(["Have", 1])])
def test_other_bytes_are_no_message(data):
    with pytest.raises(RemoteProtocolError, match="expected Compare"):
        decode(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


def test_of_two_that_differ_one_supersedes_the_other():
    held = [((1, 0), b"a"), ((1, 0), b"b"), ((1, 1), b"a"), ((2, 0), b"")]
    for one, other in itertools.product(held, held):
        assert supersedes(*one, *other) + supersedes(*other, *one) == (one != other)


def test_versions_have_bounds():
    assert is_sane((0, 2**63 - 1))
    assert not is_sane((-1, 0))
    assert not is_sane((0, 2**63))

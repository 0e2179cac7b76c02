"""What acknowledged delivery says on the wire, and what it takes for nothing."""

from typing import Any

import msgspec
import pytest

from fdn.messaging.delivery.frames import (
    ACK_RANGES_MAX,
    DEPENDENCIES_MAX,
    Ack,
    Dependency,
    MessageId,
    Tag,
    pack_ack,
    pack_causal,
    read_ack,
    read_causal,
    read_message_id,
    read_tag,
)
from transports.wire.envelope import MetaKey

encode = msgspec.msgpack.encode


def test_a_tag():
    assert read_tag({MetaKey.DELIVERY: [7, 1, 0]}) == Tag(7, 1, 0)


@pytest.mark.parametrize(
    "said", [None, 7, [], [7, 1], [7, 1, 0, 0], [0, 1, 0], [7, 0, 0], [7, 1, -1], [2**63, 1, 0], ["7", 1, 0], {7: 1}]
)
def test_no_tag(said: Any):
    assert read_tag({MetaKey.DELIVERY: said}) is None
    assert read_tag({}) is None


def test_an_identity():
    assert read_message_id({MetaKey.ORIGIN: "n1-0", MetaKey.SEQUENCE: 3}) == MessageId("n1-0", 3)
    of_group: dict[int, Any] = {MetaKey.ORIGIN: "n1-0", MetaKey.SEQUENCE: 3, MetaKey.GROUPS: ["g"]}
    assert read_message_id(of_group) == MessageId("n1-0", 3, "g")
    assert read_message_id(of_group | {int(MetaKey.GROUPS): [7]}) == MessageId("n1-0", 3)
    others: list[dict[int, Any]] = [{}, {MetaKey.ORIGIN: "n1"}, {MetaKey.ORIGIN: 1, MetaKey.SEQUENCE: 1}]
    for meta in others:
        assert read_message_id(meta) is None
    assert read_message_id({MetaKey.ORIGIN: "x" * 257, MetaKey.SEQUENCE: 1}) is None
    assert read_message_id({MetaKey.ORIGIN: "x", MetaKey.SEQUENCE: 0}) is None


def test_dependencies():
    past = (Dependency("a", "b", 1, 2), Dependency("c", "b", 3, 4))
    packed = msgspec.msgpack.decode(encode(pack_causal("cart", past)))
    assert packed == ["cart", [["a", "b", 1, 2], ["c", "b", 3, 4]]]
    assert read_causal({MetaKey.CAUSAL: packed}) == ("cart", past)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        ["cart"],
        [1, []],
        ["x" * 257, []],
        ["cart", [["a", "b", 1]]],
        ["cart", [["a", "b", 0, 1]]],
        ["cart", [["a", "x" * 257, 1, 1]]],
        ["cart", [["a", "b", 1, 1]] * (DEPENDENCIES_MAX + 1)],
    ],
)
def test_no_dependencies(said: Any):
    assert read_causal({MetaKey.CAUSAL: said}) is None


def test_an_ack():
    number, body = pack_ack(Ack(7, 3, [(5, 6), (9, 9)], (8,)))
    assert (number, body) == (7, (3, ((5, 6), (9, 9)), (8,)))
    assert read_ack(number, encode(body)) == Ack(7, 3, [(5, 6), (9, 9)], [8])


@pytest.mark.parametrize(
    "said",
    [
        None,
        3,
        [3],
        [3, [[6, 5]], []],
        [3, [[5]], []],
        [3, [], ["x"]],
        [3, [[5, 6]] * (ACK_RANGES_MAX + 1), []],
        [3, [], [5] * (ACK_RANGES_MAX + 1)],
    ],
)
def test_no_ack(said: Any):
    assert read_ack(7, encode(said)) is None
    assert read_ack(7, b"\xc1") is None

from typing import Any

import pytest

from fdn.errors import BadRequest
from fdn.runtime.send_options import KEY_BYTES_MAX, NO_OPTIONS, SendOptions, node_of_key, options_from_wire
from transports.wire.envelope import MetaKey

NODES = [f"n{number}-0123456789abcdef" for number in range(5)]


@pytest.mark.parametrize(
    "wish",
    [
        {"key": ""},
        {"key": 17},
        {"key": "\ud800"},
        {"key": "ä" * KEY_BYTES_MAX},
        {"key": b"x" * (KEY_BYTES_MAX + 1)},
        {"priority": 5},
        {"priority": -5},
        {"priority": 1.0},
        {"priority": True},
        {"priority": "high"},
        {"latest": "x" * (KEY_BYTES_MAX + 1)},
        {"latest": 7},
    ],
)
def test_what_is_not_possible_is_refused(wish: dict[str, Any]):
    with pytest.raises(BadRequest, match=next(iter(wish))):
        SendOptions(**wish)


def test_a_name_that_supersedes_is_a_key_too():
    assert SendOptions(latest="speed").key == "speed"
    assert SendOptions("car-1", latest="speed").key == "car-1"


def test_the_receiver_is_told_of_key_and_priority():
    assert NO_OPTIONS.add_to(None) is None
    assert NO_OPTIONS.add_to({11: {}}) == {11: {}}
    assert SendOptions("k", 2).add_to(None) == {MetaKey.PARTITION_KEY: "k", MetaKey.PRIORITY: 2}
    assert SendOptions(b"k").add_to({11: {}}) == {11: {}, MetaKey.PARTITION_KEY: b"k"}
    assert SendOptions(refuse=True).add_to(None) is None


def test_what_a_client_has_said_is_passed_on():
    read = options_from_wire({MetaKey.PARTITION_KEY: b"k", MetaKey.PRIORITY: -3})
    assert read is not None
    assert (read.key, read.priority, read.latest, read.refuse) == (b"k", -3, "", False)
    unreadable: list[dict[int, Any] | None] = [None, {}, {11: {}}, {2: 7}, {3: 99}, {3: []}]
    for nothing in unreadable:
        assert options_from_wire(nothing) is None


def test_keys_are_spread_over_nodes_and_move_only_when_they_must():
    keys = [f"order-{number}" for number in range(2000)]
    before = {key: node_of_key(key, NODES) for key in keys}
    assert all(300 < list(before.values()).count(node) < 500 for node in NODES)
    assert before == {key: node_of_key(key.encode(), NODES[::-1]) for key in keys}
    fewer = [node for node in NODES if node != NODES[2]]
    after = {key: node_of_key(key, fewer) for key in keys}
    assert all(after[key] == node for key, node in before.items() if node != NODES[2])
    assert {after[key] for key, node in before.items() if node == NODES[2]} == set(fewer)

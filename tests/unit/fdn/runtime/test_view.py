from typing import Any

import msgspec

from fdn.runtime.view import EMPTY_VIEW, Member, NodeRecord, NodeState, View


def member(node: str, name: str, status: str = "alive", **facts: Any) -> Member:
    return Member(node=node, name=name, status=status, incarnation=(1, 0), endpoints={}, tags={}, **facts)


def test_members_are_found_by_id_and_by_name_the_living_first():
    view = View({m.node: m for m in (member("a-1", "a", "dead"), member("a-2", "a"), member("b-1", "b", "left"))}, {})
    assert view.named("a") is view.members["a-2"]
    assert view.named("a-1") is view.members["a-1"]
    assert view.named("b") is view.members["b-1"]
    assert view.named("c") is None
    assert EMPTY_VIEW.named("a") is None


def test_a_suspect_still_holds_its_name():
    view = View({m.node: m for m in (member("a-1", "a", "left"), member("a-2", "a", "suspect"))}, {})
    assert view.named("a") is view.members["a-2"]


def test_a_record_says_little_when_all_is_well():
    assert msgspec.msgpack.encode(NodeRecord()) == b"\x80"
    stalled = NodeRecord(NodeState.STALLED, 700, msgspec.Raw(b"\x01"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stalled), type=NodeRecord).state is NodeState.STALLED

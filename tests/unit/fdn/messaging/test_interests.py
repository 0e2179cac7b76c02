import collections
import types
from typing import Any

import pytest

from fdn.messaging.interests import Interests
from fdn.messaging.offers import Interest, Offers, encode_offers
from fdn.runtime.view import Member, NodeState, View

ME = "n1"


def view(wants: dict[str, list[str]], **changes: dict[str, Any]) -> View:
    """Members, and what they want: `pattern` or `pattern queue`. `changes` are of the members, by node."""
    usual = {"status": "alive", "incarnation": (1, 0), "endpoints": {}, "tags": {}}
    members = {node: Member(node, node, **usual | changes.get(node, {})) for node in wants}
    offers = {
        node: encode_offers(Offers(interests=tuple(Interest(*wish.split()) for wish in wishes)))
        for node, wishes in wants.items()
    }
    return View(types.MappingProxyType(members), types.MappingProxyType(offers))


def interests(wants: dict[str, list[str]], own: list[Interest] = [], **changes: dict[str, Any]) -> Interests:  # noqa: B006
    table = Interests(ME, lambda: own)
    table.on_view(view(wants, **changes))
    return table


def groups(table: Interests, subject: str) -> dict[str, tuple[str, ...]]:
    return {group.name: group.nodes for group in table.route(subject).groups}


def test_those_who_want_it_and_nobody_else():
    table = interests({"n2": ["orders.>"], "n3": ["orders.*", "orders.eu"], "n4": ["other"], "n5": []})
    assert set(table.route("orders.eu").nodes) == {"n2", "n3"}
    assert table.route("orders.eu.created").nodes == ("n2",)
    assert table.route("nothing").nodes == ()


def test_the_only_one():
    table = interests({"n2": ["a", "b q"], "n3": ["c"], "n4": ["c"]})
    assert [table.route(subject).only for subject in ("a", "b", "c", "d")] == ["n2", "", "", ""]


def test_a_group_spans_patterns_and_nodes():
    table = interests({"n2": ["a.* q"], "n3": ["a.> q", "a.b other"], "n4": ["a.b"]})
    assert groups(table, "a.b") == {"q": ("n2", "n3"), "other": ("n3",)}
    assert table.route("a.b").nodes == ("n4",)
    assert groups(table, "a.b.c") == {"q": ("n3",)}


def test_turns_are_fair_over_all_subjects():
    table = interests({"n2": ["a.* q"], "n3": ["a.* q"], "n4": ["a.* q"]})
    picked = collections.Counter(table.route(f"a.{number}").groups[0].next() for number in range(300))
    assert picked == {"n2": 100, "n3": 100, "n4": 100}


def test_next_but():
    group = interests({"n2": ["a q"], "n3": ["a q"]}).route("a").groups[0]
    assert group.next_but({"n2"}) == "n3"
    assert group.next_but({"n2", "n3"}) is None


@pytest.mark.parametrize(
    "change",
    [{"state": NodeState.STALLED}, {"state": NodeState.DRAINING}, {"state": NodeState.WEDGED}, {"status": "suspect"}],
    ids=str,
)
def test_a_member_that_is_not_well_is_not_picked_while_another_is(change: dict[str, Any]):
    assert groups(interests({"n2": ["a q"], "n3": ["a q"]}, n2=change), "a") == {"q": ("n3",)}


def test_those_that_may_yet_take_it_when_nobody_is_well():
    assert groups(interests({"n2": ["a q"]}, n2={"state": NodeState.STALLED}), "a") == {"q": ("n2",)}
    assert groups(interests({"n2": ["a q"]}, n2={"status": "suspect"}), "a") == {"q": ("n2",)}


@pytest.mark.parametrize("change", [{"status": "dead"}, {"status": "left"}, {"state": NodeState.DRAINING}], ids=str)
def test_the_dead_and_those_who_leave_get_nothing(change: dict[str, Any]):
    table = interests({"n2": ["a", "a q"]}, n2=change)
    assert (table.route("a").nodes, table.route("a").groups) == ((), ())


def test_a_stalled_plain_subscriber_still_gets_it():
    assert interests({"n2": ["a"]}, n2={"state": NodeState.STALLED}).route("a").nodes == ("n2",)


def test_our_own_wants_count_at_once_and_as_we_say():
    own: list[Interest] = []
    table = interests({ME: ["old"], "n2": ["a q"]}, own)
    assert table.route("old").nodes == ()
    own += [Interest("a"), Interest("a", "q")]
    table.own_changed()
    assert table.route("a").nodes == (ME,)
    assert groups(table, "a") == {"q": (ME, "n2")}


def test_draining_we_pick_others():
    table = Interests(ME, lambda: [Interest("a", "q"), Interest("a")])
    table.on_view(view({ME: [], "n2": ["a q"]}, n1={"state": NodeState.DRAINING}))
    assert groups(table, "a") == {"q": ("n2",)}
    assert table.route("a").nodes == (ME,)


def test_routes_are_kept_until_something_changes_that_concerns_them():
    table = interests({"n2": ["a"], "n3": []})
    kept, routes = table.route("a"), table.routes
    table.on_view(view({"n2": ["a"], "n3": []}, n3={"status": "dead"}))
    assert table.route("a") is kept
    table.on_view(view({"n2": ["b"], "n3": []}))
    assert table.route("a").nodes == ()
    assert table.routes is routes


def test_subjects_without_end_are_not_kept_without_end():
    table = interests({"n2": ["a.*"]})
    for number in range(10_000):
        table.route(f"a.{number}")
    assert len(table.routes) <= 4096


def test_what_is_no_pattern_is_passed_over():
    table = interests({"n2": ["a.>.b", "a.b"]})
    assert table.route("a.b").nodes == ("n2",)
    assert table.route("a.c.b").nodes == ()

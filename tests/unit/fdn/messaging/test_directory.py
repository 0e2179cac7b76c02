import types
from typing import Any

import msgspec
import pytest

from fdn.errors import NotFound, Unreachable
from fdn.messaging.directory import OffersDirectory, Route
from fdn.messaging.offers import Offer, Offers, encode_offers
from fdn.runtime.view import Member, NodeState, View

MATH = Offers((Offer("math", ("add", "sub")), Offer("who")))


def member(name: str, **facts: Any) -> Member:
    given = {"status": "alive", "incarnation": (1, 0), "endpoints": {}, "tags": {}} | facts
    return Member(node=f"{name}-id", name=name, **given)


def view(*members: Member, offers: Offers = MATH) -> View:
    return View(
        types.MappingProxyType({m.node: m for m in members}),
        types.MappingProxyType({m.node: encode_offers(offers) for m in members if m.status in ("alive", "suspect")}),
    )


def directory(*members: Member) -> OffersDirectory:
    made = OffersDirectory()
    made.on_view(view(*members))
    return made


def taken(route: Route, count: int) -> list[str]:
    return [route.next().removesuffix("-id") for _ in range(count)]


def test_nodes_take_turns():
    made = directory(member("a"), member("b"), member("c"))
    turns = taken(made.route("math.add"), 6)
    assert sorted(turns[:3]) == ["a", "b", "c"]
    assert turns[:3] == turns[3:]
    assert made.route("math.add").to == "math.add"


def test_a_change_does_not_always_favour_the_same_node():
    made = directory(member("a"), member("b"))
    made.route("math.add")
    firsts = set()
    for _ in range(4):
        made.on_view(view(member("a"), member("b")))
        firsts.add(made.route("math.add").next())
    assert len(firsts) == 2


def test_those_that_failed_are_passed_over():
    route = directory(member("a"), member("b"), member("c")).route("math.add")
    assert {route.next_but(["a-id", "b-id"]) for _ in range(5)} == {"c-id"}
    assert route.next_but(["a-id", "b-id", "c-id"]) in ("a-id", "b-id", "c-id")


@pytest.mark.parametrize(
    ("facts", "serves"),
    [
        ({}, True),
        ({"status": "suspect"}, False),
        ({"state": NodeState.STALLED}, False),
        ({"state": NodeState.WEDGED}, False),
        ({"state": NodeState.DRAINING}, False),
        ({"status": "dead"}, False),
        ({"status": "left"}, False),
    ],
)
def test_who_is_not_well_is_avoided_while_others_are(facts: dict[str, Any], serves: bool):
    made = directory(member("a"), member("b", **facts))
    assert ("b" in taken(made.route("math.add"), 4)) is serves


@pytest.mark.parametrize("facts", [{"status": "suspect"}, {"state": NodeState.STALLED}])
def test_who_may_yet_answer_is_asked_when_nobody_else_serves(facts: dict[str, Any]):
    assert taken(directory(member("a"), member("b", **facts), member("c", **facts)).route("math.add"), 2) == ["a", "a"]
    assert sorted(taken(directory(member("b", **facts), member("c", **facts)).route("math.add"), 2)) == ["b", "c"]


@pytest.mark.parametrize("facts", [{"state": NodeState.WEDGED}, {"state": NodeState.DRAINING}, {"status": "dead"}])
def test_who_cannot_answer_offers_nothing(facts: dict[str, Any]):
    with pytest.raises(NotFound, match=r"no node offers 'math\.add'"):
        directory(member("b", **facts)).route("math.add")


def test_one_node_by_name_or_id():
    made = directory(member("a"), member("b"), member("c", status="dead", reason="no answer"))
    for target in ("math.add@b", "math.add@b-id"):
        assert made.route(target).nodes == ("b-id",)
        assert made.route(target).to == "math.add"
    with pytest.raises(NotFound, match="no member is named 'z'"):
        made.route("math.add@z")
    with pytest.raises(Unreachable, match="node 'c' is dead: no answer"):
        made.route("math.add@c")


def test_did_you_mean():
    made = directory(member("a"))
    for wrong, hint in (
        ("math.ad", "did you mean 'math.add'"),
        ("math.multiply_matrices", "'math' has math.add, math.sub"),
        ("nothing", "fdn service ls"),
    ):
        with pytest.raises(NotFound) as caught:
            made.route(wrong)
        assert hint in caught.value.hint


def test_before_the_first_view_nobody_serves():
    made = OffersDirectory()
    assert made.offers() == {}
    for target in ("math.add", "math.add@a"):
        with pytest.raises(NotFound):
            made.route(target)


def test_offers_by_node():
    made = directory(member("a"), member("b", status="dead"))
    assert made.offers() == {"a-id": MATH.services}


def test_offers_that_cannot_be_read_are_none():
    made = OffersDirectory()
    made.on_view(View({"a-id": member("a")}, {"a-id": msgspec.msgpack.encode("nonsense")}))
    assert made.offers() == {"a-id": ()}


def test_offers_of_somebody_who_is_no_member_count_for_nothing():
    made = OffersDirectory()
    made.on_view(View({}, {"a-id": encode_offers(MATH)}))
    with pytest.raises(NotFound):
        made.route("math.add")


def test_a_route_follows_the_view():
    made = directory(member("a"), member("b"))
    made.route("math.add")
    made.on_view(view(member("b")))
    assert taken(made.route("math.add"), 3) == ["b"] * 3
    made.on_view(view())
    with pytest.raises(NotFound):
        made.route("math.add")

import random
from typing import Any

from fdn.client.addresses import Addresses


def row(endpoint: str, **changes: Any) -> dict[str, Any]:
    return {"endpoints": {"coordination": endpoint}, "reachable": True, "state": "serving"} | changes


def addresses(*seeds: str) -> Addresses:
    return Addresses(seeds, random.Random(3).random)


def test_seeds_in_their_order():
    assert addresses("a", "b", "a", "c").round() == ["a", "b", "c"]


def test_after_a_loss_the_other_members_first_and_the_lost_last():
    some = addresses("a", "b")
    some.on_members([row("a"), row("c"), row("d")])
    some.on_connected()
    some.on_lost("a")
    first = some.round()
    assert set(first[:2]) == {"c", "d"}
    assert first[2:] == ["b", "a"]
    orders = {tuple(some.round()) for _ in range(20)}
    assert len(orders) > 1, "not everybody goes to the same one"


def test_one_seed_and_nobody_else_is_tried_again():
    some = addresses("a")
    some.on_lost("a")
    assert some.round() == ["a"]


def test_members_that_cannot_be_used_are_not_remembered():
    some = addresses("a")
    some.on_members(
        [
            row("b", reachable=False),
            row("c", state="draining"),
            row("", endpoints={}),
            row("", endpoints=None),
            7,
            row("d"),
        ]
    )
    assert some.remembered == ("d",)
    for useless in ([], None, "x", [1, 2], [row("e", reachable=False)]):
        some.on_members(useless)
    assert some.remembered == ("d",), "an empty answer is no reason to forget"


def test_the_list_is_bounded():
    some = addresses("a")
    some.on_members([row(f"m{number}") for number in range(1000)])
    assert len(some.remembered) == 16


def test_pauses_grow_with_jitter_and_start_over():
    some = Addresses(["a"], lambda: 1.0)
    assert [some.pause_s() for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    some.on_connected()
    assert some.pause_s() == 0.05
    jittered = addresses("a")
    assert len({jittered.pause_s() for _ in range(5)}) == 5
    for _ in range(5000):
        some.pause_s()  # years without overflow


def test_whether_there_is_another():
    known = addresses("tcp://n1:1")
    assert not known.beside("tcp://n1:1")
    known.on_members([row("tcp://n1:1"), row("tcp://n2:1")])
    assert known.beside("tcp://n1:1")

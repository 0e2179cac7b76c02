import random
from dataclasses import dataclass

import pytest

from fdn.runtime.flow.lane_choice import BUCKETS, BULK_BYTES, LaneTable, choose_lane

KEYS = [f"order-{number}" for number in range(1000)]


@dataclass
class Load:
    """An open lane."""

    backlog: int = 0
    has_credit: bool = True


IDLE = Load()
FULL_BATCH = Load(70_000)
STALLED = Load(0, has_credit=False)


# -- keys


def test_one_key_has_one_lane_and_many_keys_have_all():
    table = LaneTable(4)
    lanes = [table.lane_of(key) for key in KEYS]
    assert lanes == [table.lane_of(key) for key in KEYS]
    assert all(150 < lanes.count(lane) < 350 for lane in range(4))
    assert table.lane_of("order-1") == table.lane_of(b"order-1")


def test_a_key_moves_once_what_was_sent_of_it_was_received():
    table = LaneTable(1)
    key = next(key for key in KEYS if LaneTable(2).lane_of(key) == 1)
    assert table.lane_of(key) == 0
    table.on_sent(key)
    table.set_active(2)
    assert table.lane_of(key) == 0
    assert table.stray() == 1
    mark = table.mark(0)
    table.on_sent(key)
    table.on_received(0, mark)  # the first, and not the second
    assert table.lane_of(key) == 0
    table.on_received(0, table.mark(0))
    assert table.lane_of(key) == 1
    assert table.stray() == 0


def test_a_key_that_was_never_used_goes_where_it_belongs_at_once():
    table = LaneTable(1)
    table.set_active(2)
    assert {table.lane_of(key) for key in KEYS} == {0, 1}


def test_lower_marks_and_those_of_other_lanes_confirm_nothing():
    table = LaneTable(2)
    one, two = (next(key for key in KEYS if table.lane_of(key) == lane) for lane in range(2))
    for key in (one, two, two):
        table.on_sent(key)
    table.set_active(1)
    table.on_received(1, 1)
    table.on_received(1, 0)
    table.on_received(0, table.mark(0))
    assert (table.lane_of(one), table.lane_of(two)) == (0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_keys_stay_in_order_whatever_the_number_of_lanes_does(seed: int):
    """Lanes deliver each in order, and none when another does: what a key's handler sees is in order all the same."""
    rng = random.Random(seed)
    table = LaneTable(3)
    lanes: list[list[tuple[str, int]]] = [[] for _ in range(6)]
    marks: list[list[tuple[int, int]]] = [[] for _ in range(6)]  # of a probe: behind so many messages, and its mark
    seen: dict[str, int] = {}
    was: dict[str, int] = {}
    moved = 0
    for number in range(3000):
        key = f"k{rng.randrange(12)}"
        moved += was.get(key, -1) not in (-1, table.lane_of(key))
        was[key] = table.lane_of(key)
        lanes[was[key]].append((key, number))
        table.on_sent(key)
        if not rng.randrange(40):
            table.set_active(rng.randint(1, 6))
        lane = rng.choice([lane for lane, waiting in enumerate(lanes) if waiting])
        if not rng.randrange(3):
            marks[lane].append((len(lanes[lane]), table.mark(lane)))
        for _ in range(rng.randrange(4)):
            if lanes[lane]:
                got, value = lanes[lane].pop(0)
                assert seen.get(got, -1) < value
                seen[got] = value
                marks[lane] = [(left - 1, mark) for left, mark in marks[lane]]
        for left, mark in marks[lane]:
            if left <= 0:
                table.on_received(lane, mark)
        marks[lane] = [(left, mark) for left, mark in marks[lane] if left > 0]
    assert moved > 10  # or there was nothing to see


def test_without_waiting_for_that_order_would_be_lost():
    """The control: a key modulo the number of lanes, as it is now, reorders."""
    key, lanes = next(key for key in KEYS if LaneTable(2).lane_of(key) == 1), [[1], []]
    lanes[LaneTable(2).lane_of(key)].append(2)
    assert lanes == [[1], [2]]  # the second may be read first


def test_there_are_enough_buckets_for_every_lane():
    assert BUCKETS >= 4 * 64


# -- messages without a key


@pytest.mark.parametrize(
    ("lanes", "current", "size", "priority", "lane", "why"),
    [
        ([IDLE], 0, 100, 0, 0, "small"),
        ([IDLE, IDLE, IDLE], 0, 100, 0, 0, "joins"),  # at idle all is as with one lane
        ([IDLE, IDLE, IDLE], 1, 100, 0, 1, "joins"),
        ([FULL_BATCH, IDLE, IDLE], 0, 100, 0, 1, "fallen behind"),
        ([Load(60_000), IDLE, IDLE], 0, 100, 0, 0, "joins"),  # less than a batch is no reason to leave
        ([STALLED, IDLE, IDLE], 0, 100, 0, 1, "fallen behind"),
        ([STALLED, STALLED, Load(9)], 0, 100, 0, 2, "fallen behind"),
        ([STALLED, STALLED, STALLED], 1, 100, 0, 0, "fallen behind"),
        ([None, IDLE, IDLE], 0, 100, 0, 1, "fallen behind"),
        ([None, None, None], 2, 100, 0, 0, "small"),
        ([IDLE, IDLE, IDLE], 0, BULK_BYTES + 1, 0, 2, "large"),
        ([IDLE, IDLE, FULL_BATCH], 0, BULK_BYTES + 1, 0, 2, "large"),
        ([IDLE, IDLE, None], 0, BULK_BYTES + 1, 0, 0, "small"),
        ([IDLE], 0, BULK_BYTES + 1, 0, 0, "small"),
        ([FULL_BATCH, FULL_BATCH, FULL_BATCH], 0, 100, 0, 0, "joins"),
        ([Load(200_000), Load(150_000), FULL_BATCH], 0, 100, 0, 0, "joins"),  # bulk on the last lane: not there
        ([Load(300_000), Load(150_000), FULL_BATCH], 0, 100, 0, 1, "fallen behind"),
        ([Load(10), IDLE, IDLE], 0, 100, 1, 1, "urgent"),
        ([Load(10), STALLED, Load(20)], 0, 100, 1, 0, "urgent"),
        ([Load(10), IDLE, IDLE], 0, 100, -1, 0, "joins"),
        ([IDLE, IDLE], 5, 100, 0, 0, "fallen behind"),  # there were more lanes a moment ago
    ],
)
def test_the_lane_of_a_message(lanes: list[Load | None], current: int, size: int, priority: int, lane: int, why: str):
    chosen, reason = choose_lane(lanes, current, size, priority)
    assert chosen == lane
    assert why in reason

"""The rules one by one, and then a simulated link: figures below are of that simulation, not of any network."""

import dataclasses
import itertools

import pytest

from fdn.runtime.flow.pace import SHARE_MIN, PaceSample, SendPace

TICK = 0.05
WINDOW = 8192
CALM = PaceSample(0.0, False, 1000, False, 0, 0.001, WINDOW)


def run(pace: SendPace, count: int, start: float = 0.0, **changes: object) -> list[float]:
    """Samples on end, one a tick; the share after each."""
    shares = []
    for number in range(count):
        sample = dataclasses.replace(CALM, now=start + number * TICK, **changes)  # type: ignore[arg-type]
        pace.on_sample(sample)
        shares.append(pace.share)
    return shares


# -- rules


def test_at_idle_and_without_congestion_it_is_neutral():
    pace = SendPace(0.25)
    assert run(pace, 10, idle=True) == [1.0] * 10
    assert pace.why.startswith("idle")
    assert run(pace, 100, 1.0) == [1.0] * 100
    assert pace.why == "no congestion: all of the credit"


@pytest.mark.parametrize(
    ("seen", "share", "why"),
    [
        ({"retransmitted": 3}, 0.5, "3 messages had to be sent again"),
        ({"rtt_s": 0.2}, 0.7, "took 200.0 ms, where 1.0 ms"),
        ({"rtt_s": 0.02}, 1.0, "no congestion"),  # loops of Python take so long now and then
        ({"starved": True, "consumed": 1}, 0.8, "of the receiver's work"),
        ({"starved": True, "consumed": 10_000}, 1.0, "no congestion"),  # all of it is 41 ms of its work
        ({"starved": True, "consumed": 1, "window": 0}, 1.0, "no congestion"),  # no limit: then it is not credit
    ],
)
def test_what_cuts(seen: dict[str, object], share: float, why: str):
    pace = SendPace(0.25)
    run(pace, 1)
    pace.rate = 0.0
    assert run(pace, 1, TICK, **seen) == [pytest.approx(share)]
    assert why in pace.why
    assert pace.congested is (share < 1)


def test_a_cut_is_felt_before_the_next_and_growth_is_step_by_step():
    pace = SendPace(0.25)
    run(pace, 5)
    assert run(pace, 4, 1.0, rtt_s=0.09) == pytest.approx([0.7, 0.7, 0.49, 0.49])
    grown = run(pace, 20, 2.0)
    assert [round(after - before, 6) for before, after in itertools.pairwise(grown[:4])] == [0.0625] * 3
    assert grown[-1] == 1.0
    assert not pace.congested


def test_it_never_stops_a_link():
    assert run(SendPace(0.25), 200, retransmitted=1)[-1] == SHARE_MIN


def test_a_path_that_has_become_longer_is_found_to_be_so_within_minutes():
    pace = SendPace(0.25)
    run(pace, 20)
    shares = run(pace, 8000, 1.0, rtt_s=0.15)
    assert min(shares) < 0.1
    assert shares[-1] == 1.0
    assert pace.floor_s == 0.15


def test_an_idle_link_forgets_its_congestion():
    pace = SendPace(0.25)
    run(pace, 20, retransmitted=1)
    assert run(pace, 1, 2.0, idle=True) == [1.0]
    assert not pace.congested


# -- simulated links


class Link:
    """Simulated: a sender that always has something, a path, and a receiver that consumes so many messages a second."""

    def __init__(self, path: float, receiver: float, rtt_s: float = 0.002) -> None:
        self.path, self.receiver, self.rtt_s = path, receiver, rtt_s
        self.pace = SendPace(0.25)
        self.pace.on_sample(PaceSample(-TICK, True, 0, False, 0, rtt_s, WINDOW))  # on an open link, at first use
        self.queued = 0.0  # in the path
        self.held = 0.0  # at the receiver, not consumed
        self.delays: list[float] = []
        self.shares: list[float] = []
        self.consumed = 0.0

    def run(self, seconds: float, start: float) -> None:
        ticks = int(seconds / TICK)
        for tick in range(ticks):
            through, eaten = self.path * TICK, self.receiver * TICK
            again = min(through, eaten)  # consumed meanwhile, and granted again
            room = max(0.0, self.pace.share * WINDOW - self.queued - self.held + again)
            sent = min(room, 3 * max(through, eaten))
            self.queued += sent
            passed = min(self.queued, through)
            self.queued -= passed
            self.held += passed
            done = min(self.held, eaten)
            self.held -= done
            self.consumed += done
            rtt = self.rtt_s + self.queued / self.path
            starved = room <= sent
            self.pace.on_sample(PaceSample(start + tick * TICK, False, int(done), starved, 0, rtt, WINDOW))
            self.delays.append(rtt + self.held / self.receiver)
            self.shares.append(self.pace.share)


@pytest.mark.parametrize(
    ("path", "receiver"),
    [(1e6, 400_000.0), (1e6, 20_000.0), (1e6, 5000.0), (1e6, 1000.0), (50_000.0, 1e6), (10_000.0, 1e6), (3000.0, 1e6)],
)
def test_simulated_all_is_used_and_little_waits(path: float, receiver: float):
    link = Link(path, receiver)
    link.run(20, 0.0)
    link.consumed = 0.0
    link.run(20, 20.0)
    capacity = 20 * min(path, receiver)
    assert link.consumed >= 0.95 * capacity
    worst = max(link.delays[-200:])
    assert worst < max(0.5, 2.2 * SHARE_MIN * WINDOW / min(path, receiver))


def test_simulated_a_step_down_and_up_again_is_followed_within_seconds():
    link = Link(1e6, 400_000.0)
    link.run(10, 0.0)
    assert link.shares[-1] == 1.0
    link.receiver = 2000.0
    link.run(10, 10.0)
    assert max(link.delays[-100:]) < 0.6  # 4 s of work, without the pace
    link.receiver = 400_000.0
    link.consumed = 0.0
    link.run(5, 20.0)
    assert link.shares[-1] == 1.0
    assert link.consumed > 0.9 * 5 * 400_000


def test_simulated_it_swings_within_a_band_only():
    link = Link(1e6, 2000.0)
    link.run(60, 0.0)
    settled = link.shares[-600:]
    assert max(settled) - min(settled) < 0.2

import pytest

from fdn.sim.clock import Clock
from fdn.sim.world import World


@pytest.fixture
def world():
    return World(1)


def pass_time(world, seconds):
    world.run(seconds)


def test_a_true_clock_counts_true_seconds(world):
    clock = Clock(world, offset_s=5.0)
    begun = clock.now
    pass_time(world, 3.0)
    assert clock.now == pytest.approx(begun + 3.0)
    assert begun == world.now - 3.0 + 5.0


def test_a_fast_clock_counts_more_from_when_it_was_turned(world):
    clock = Clock(world)
    pass_time(world, 10.0)
    begun = clock.now
    clock.run_at(1.5)
    assert clock.now == begun
    pass_time(world, 2.0)
    assert clock.now == pytest.approx(begun + 3.0)


def test_a_jump_is_ahead(world):
    clock = Clock(world)
    begun = clock.now
    clock.jump(7.0)
    assert clock.now == begun + 7.0
    with pytest.raises(ValueError, match="only jumps ahead"):
        clock.jump(-0.1)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_no_clock_stands_still_or_goes_back(world, rate):
    with pytest.raises(ValueError, match="cannot run at"):
        Clock(world).run_at(rate)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.1, 1.25])
def test_when_a_timer_is_due_the_clock_shows_it(world, rate):
    clock = Clock(world, offset_s=world.rng("offset").uniform(0, 1e5))
    clock.run_at(rate)
    for _ in range(200):
        due = clock.now + world.rng("due").uniform(0.0, 3.0)
        pass_time(world, clock.when(due) - world.now)
        assert clock.now >= due


def test_what_is_past_is_due_now(world):
    clock = Clock(world)
    assert clock.when(clock.now - 1.0) == world.now

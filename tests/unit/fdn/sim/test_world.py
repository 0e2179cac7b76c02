import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdn.sim.world import STARTS_AT, World

ROOT = Path(__file__).parents[4]


def test_things_happen_by_time_then_in_the_order_in_which_they_were_put_in():
    world = World(1)
    seen: list[tuple[float, str]] = []
    for delay, what in [(2.0, "c"), (1.0, "a"), (1.0, "b")]:
        world.after(delay, lambda what: seen.append((world.elapsed_s, what)), what)
    assert world.run(5.0) is None
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c")]
    assert world.now == STARTS_AT + 5.0
    assert world.event_count == 3


def test_a_run_ends_when_what_was_waited_for_is_true():
    world = World(1)
    seen: list[float] = []
    for delay in (1.0, 2.0, 3.0):
        world.after(delay, seen.append, delay)
    assert world.run(10.0, lambda: len(seen) == 2) == 2.0
    assert world.run(10.0, lambda: True) == 0.0
    assert seen == [1.0, 2.0]


def test_nothing_happens_in_the_past():
    world = World(1)
    with pytest.raises(ValueError, match="nothing happens in the past"):
        world.after(-0.1, print)


def test_a_purpose_has_dice_of_its_own():
    one, two = World(7), World(7)
    one.rng("loss").random()
    assert [one.rng("latency").random() for _ in range(3)] == [two.rng("latency").random() for _ in range(3)]
    assert World(8).rng("latency").random() != World(7).rng("latency").random()
    assert one.rng("loss") is one.rng("loss")


def test_an_invariant_is_checked_after_everything_that_happens():
    world, counts = World(1), []
    world.always(lambda: counts.append(world.event_count))
    for delay in (1.0, 2.0):
        world.after(delay, int)
    world.run(5.0)
    assert counts == [1, 2]


def test_the_digest_tells_runs_apart_and_not_when_it_was_asked_for():
    one, two, other = World(1, notes_max=2), World(1), World(1)
    for number in range(1000):
        one.note("a", number)
        two.note("a", number)
        other.note("a", number + 1)
        two.digest()
    assert one.digest() == two.digest() != other.digest()
    assert [facts for _, _, facts in one.notes()] == [(998,), (999,)]


@pytest.mark.parametrize("scenario", ["swim-chaos", "raft"])
def test_a_seed_is_the_same_run_in_every_process(scenario):
    code = (
        "from fdn.sim import Scenario, run; from fdn.sim.scenarios import SCENARIOS;"
        f"done = run(SCENARIOS[{scenario!r}], 3); print(done.digest, done.event_count, done.figures)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1

"""The rules one by one, and then simulated links with steps: figures are of that simulation, not of any network."""

import itertools
import random

import pytest

from fdn.runtime.flow.tuner import BATCH_BYTES_MAX, BATCH_BYTES_MIN, PATIENCE, QUIET, TRIAL, Tuner, TunerSample

TICK = 0.05
IDLE = TunerSample(TICK, 0, False, False)


def at(rate: float, held_up: bool = True) -> TunerSample:
    """A busy sample at so many bytes a second."""
    return TunerSample(TICK, int(rate * TICK), held_up, True)


class Network:
    """Simulated: each connection carries so much, all together no more than the path; the sender always has more."""

    def __init__(self, connection: float, path: float, noise: float = 0.05, seed: int = 1) -> None:
        self.connection, self.path, self.noise = connection, path, noise
        self._rng = random.Random(seed)

    def run(self, tuner: Tuner, samples: int) -> list[tuple[int, int]]:
        """The batch size and the number of lanes after each sample."""
        seen = []
        for _ in range(samples):
            rate = min(self.path, tuner.lanes * self.connection) * self._rng.uniform(1 - self.noise, 1 + self.noise)
            tuner.on_sample(at(rate))
            seen.append((tuner.batch_bytes, tuner.lanes))
        return seen


def changes(values: list[int]) -> int:
    return sum(one != other for one, other in itertools.pairwise(values))


# -- rules


def test_nothing_happens_at_idle_or_while_the_network_keeps_up():
    tuner = Tuner(8)
    assert not any(tuner.on_sample(IDLE) for _ in range(500))
    assert not any(tuner.on_sample(at(1e3, held_up=False)) for _ in range(500))
    assert (tuner.batch_bytes, tuner.lanes) == (BATCH_BYTES_MAX, 1)
    assert "enough" in tuner.why_lanes


def test_a_change_needs_patience():
    tuner = Tuner(8)
    for _ in range(20):
        for _ in range(PATIENCE - 1):
            assert not tuner.on_sample(at(1e6))
        assert not tuner.on_sample(at(1e6, held_up=False))
    assert (tuner.batch_bytes, tuner.lanes) == (BATCH_BYTES_MAX, 1)


@pytest.mark.parametrize(
    ("rate", "batch"), [(1e9, 65536), (40e6, 65536), (10e6, 16384), (5e6, 8192), (2e6, 4096), (1e3, BATCH_BYTES_MIN)]
)
def test_a_batch_takes_about_two_milliseconds(rate: float, batch: int):
    tuner = Tuner(1)
    for _ in range(20):
        tuner.on_sample(at(rate))
    assert tuner.batch_bytes == batch


def test_a_lane_that_does_not_pay_is_given_up_and_the_next_attempts_are_rare():
    tuner = Tuner(8)
    lanes = [lanes for _, lanes in Network(10e6, 10e6).run(tuner, 4000)]
    assert lanes[PATIENCE] == 2
    assert lanes[PATIENCE + TRIAL] == 1
    assert "does not pay" in tuner.why_lanes
    assert max(lanes) == 2
    assert changes(lanes) <= 20  # ten attempts: each pause is twice as long as the one before
    assert changes(lanes[:400]) >= changes(lanes[2000:])


def test_a_lane_that_is_not_needed_goes_after_long_quiet():
    tuner = Tuner(8, lanes=3)
    for _ in range(QUIET - 1):
        assert not tuner.on_sample(IDLE)
    assert tuner.on_sample(IDLE)
    assert tuner.lanes == 2
    for _ in range(5 * QUIET):
        tuner.on_sample(IDLE)
    assert tuner.lanes == 1


def test_the_bounds_hold_whatever_comes():
    rng = random.Random(7)
    tuner = Tuner(4, 2)
    for _ in range(20_000):
        tuner.on_sample(TunerSample(TICK, int(rng.expovariate(1e-5)), rng.random() < 0.5, rng.random() < 0.9))
        assert 1 <= tuner.lanes <= 4
        assert BATCH_BYTES_MIN <= tuner.batch_bytes <= BATCH_BYTES_MAX
        assert tuner.batch_bytes.bit_count() == 1


# -- simulated links


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("connection", "path", "lanes"), [(10e6, 40e6, 4), (10e6, 1e9, 8), (50e6, 110e6, 3)])
def test_simulated_it_settles_at_the_number_that_pays(connection: float, path: float, lanes: int, seed: int):
    tuner = Tuner(8)
    seen = Network(connection, path, seed=seed).run(tuner, 1500)
    settled = [now for _, now in seen[300:]]
    assert max(set(settled), key=settled.count) == lanes
    assert sum(now == lanes for now in settled) > 0.95 * len(settled)


def test_simulated_a_step_is_followed_and_then_nothing_moves():
    network, tuner = Network(10e6, 1e9, noise=0.15), Tuner(1)
    before = [batch for batch, _ in network.run(tuner, 200)]
    assert set(before[20:]) == {16384}
    network.connection = 1e6  # a tenth
    after = [batch for batch, _ in network.run(tuner, 400)]
    assert set(after[30:]) == {4096}
    network.connection = 100e6
    again = [batch for batch, _ in network.run(tuner, 400)]
    assert set(again[60:]) == {65536}
    assert changes(after) + changes(again) <= 6  # no swinging on the way


@pytest.mark.parametrize("rate", [8e6 * factor for factor in (0.7, 0.9, 1.0, 1.1, 1.4)])
def test_simulated_no_rate_makes_it_swing(rate: float):
    tuner = Tuner(1)
    seen = [batch for batch, _ in Network(rate, 1e9, noise=0.3, seed=3).run(tuner, 2000)]
    assert changes(seen[50:]) <= 1


def test_simulated_the_control_without_a_dead_band_swings():
    """What the dead band is for: the same noise moves a size that always follows the rate."""

    def nearest(rate: float) -> int:
        return 1 << round(rate * 0.002).bit_length()

    rng = random.Random(3)
    assert changes([nearest(8e6 * rng.uniform(0.7, 1.3)) for _ in range(2000)]) > 500

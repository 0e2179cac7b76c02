import random
import statistics

from fdn.sim.latency import Fixed, LogNormal, Uniform


def draws(latency, count=5000):
    rng = random.Random(1)
    return [latency.draw(rng) for _ in range(count)]


def test_fixed():
    assert set(draws(Fixed(0.3))) == {0.3}


def test_uniform():
    drawn = draws(Uniform(0.1, 0.2))
    assert 0.1 <= min(drawn) < 0.101
    assert 0.199 < max(drawn) <= 0.2


def test_log_normal_has_its_median_its_tail_and_its_bound():
    drawn = sorted(draws(LogNormal(0.01, 0.5)))
    assert abs(statistics.median(drawn) - 0.01) < 0.0005
    assert 0.028 < drawn[int(len(drawn) * 0.99)] < 0.036
    assert max(draws(LogNormal(0.01, 1.0, most_s=0.02))) == 0.02

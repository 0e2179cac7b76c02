import gc

import pytest

import fdn
from fdn.bench import stall


def test_every_scenario_names_a_method_of_the_service() -> None:
    served = {declared.name: declared.target for declared in stall.app.services}
    assert set(served) == {"stall"}
    for method, _ in stall.SCENARIOS.values():
        assert callable(getattr(served["stall"], method))


@pytest.mark.parametrize("method", ["sleep", "loop", "sort", "collect"])
def test_each_way_to_block_times_itself(method: str) -> None:
    assert getattr(stall.Stall(), method)(0.0) >= 0.0


def test_collecting_leaves_the_collector_as_it_was() -> None:
    assert gc.isenabled()
    stall.Stall().collect(10)
    assert gc.isenabled()


def test_where_is_answered_by_the_node() -> None:
    context = fdn.Context(node="n1", caller="", target="", trace_id="", span_id="", deadline_at=0.0)
    assert stall.Stall().where(context) == "n1"


@pytest.mark.parametrize(
    ("taken_s", "spread_ms"),
    [([], (0.0, 0.0, 0.0)), ([0.002], (2.0, 2.0, 2.0)), ([n / 1000 for n in range(100)], (50.0, 99.0, 99.0))],
)
def test_spread(taken_s: list[float], spread_ms: tuple[float, float, float]) -> None:
    assert stall._spread_ms(taken_s) == spread_ms

import json

import pytest

from fdn.sim import swim_study
from fdn.sim.study import StudyRequest
from fdn.sim.swim_study import SWIM


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swim_study, "_ROWS", {name: swim_study._ROWS[name] for name in ("swim", "lifeguard", "fdn")})
        patch.setattr(swim_study, "_ANOMALIES", ((0.2, 16.384, 0.256),))
        return SWIM.measure(StudyRequest(nodes=16, seed=7, messages=1, cycles=45))


def test_slow_members_make_plain_swim_hold_the_living_dead_and_lifeguard_hardly(result):
    swim, lifeguard = result["rows"]["swim"], result["rows"]["lifeguard"]
    assert swim["false_positives"] > 50
    assert 0 < swim["at_healthy"] < swim["false_positives"]
    assert lifeguard["false_positives"] <= 0.02 * swim["false_positives"]
    assert result["rows"]["fdn"]["false_positives"] <= 0.02 * swim["false_positives"]


def test_deaths_are_found_no_later(result):
    swim, lifeguard = result["rows"]["swim"], result["rows"]["lifeguard"]
    assert 5.0 < swim["first_verdict_s"]["p50"] <= swim["last_verdict_s"]["p50"] < 20.0
    assert lifeguard["last_verdict_s"]["p50"] <= 1.1 * swim["last_verdict_s"]["p50"]


def test_the_load_of_a_member_does_not_grow_with_the_cluster(result):
    small, large = result["idle_load_by_nodes"].values()
    assert small["messages_a_node_second"] == pytest.approx(2.0, abs=0.4)
    assert large["messages_a_node_second"] == pytest.approx(2.0, abs=0.4)
    assert large["bytes_a_node_second"] > 0


def test_the_result_is_json_and_a_table_beside_the_paper(result):
    assert json.loads(json.dumps(result))["paper"]["percent_of_swim"]["lifeguard"] == 1.53
    text = "\n".join(SWIM.table(result))
    assert "1.53" in text
    assert "Lifeguard, 2017" in text

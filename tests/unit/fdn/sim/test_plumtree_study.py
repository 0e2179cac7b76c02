import json

import pytest

from fdn.sim.plumtree_study import PLUMTREE
from fdn.sim.study import StudyRequest

NODES = 80


@pytest.fixture(scope="module")
def result():
    return PLUMTREE.measure(StudyRequest(nodes=NODES, seed=3, messages=12, cycles=5))


def test_a_tree_costs_one_payload_a_node(result):
    for kind in ("plain", "optimised", "own_trees"):
        assert result[kind]["one"]["rmr"] <= 0.01
        assert result[kind]["one"]["payload"] == pytest.approx(NODES - 1, abs=1)
        assert all(figures["reliability_min"] == 1.0 for figures in result[kind].values())
        assert all(figures["delivered_twice"] == 0 for figures in result[kind].values())
    assert result["plain"]["one"]["flood_payload"] == pytest.approx(4 * NODES, rel=0.1)


def test_nothing_is_missed_while_nodes_are_killed(result):
    churn = result["churn"]
    assert churn["cycles"] == 12
    assert churn["reliability_min"] == 1.0
    assert churn["missed"] == 0


def test_the_result_is_json_and_a_table_beside_the_paper(result):
    assert json.loads(json.dumps(result))["paper"]["optimised"]["many_control"] == 38_976
    text = "\n".join(PLUMTREE.table(result))
    assert "+22.5%" in text
    assert "SRDS 2007" in text

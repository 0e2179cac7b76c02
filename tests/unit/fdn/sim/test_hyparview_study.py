import json

import pytest

from fdn.sim import hyparview_study
from fdn.sim.graphs import clustering, path_length
from fdn.sim.hyparview_study import HYPARVIEW
from fdn.sim.study import StudyRequest

NODES = 120


@pytest.fixture(scope="module")
def edges(tmp_path_factory):
    return tmp_path_factory.mktemp("study") / "edges.jsonl"


@pytest.fixture(scope="module")
def result(edges):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hyparview_study, "_SHARES", (50, 80))
        return HYPARVIEW.measure(StudyRequest(nodes=NODES, seed=7, messages=10, cycles=10, edges=edges))


def test_the_overlay_is_a_random_graph_and_repairs_itself(result):
    assert result["symmetric"] is True
    assert result["components"] == [NODES]
    assert result["path_length"] == pytest.approx(result["control"]["path_length"], abs=0.2)
    assert result["reliability"]["reactive"] == {"50": 1.0, "80": 1.0}
    assert result["healing_cycles"]["50"] <= 2


def test_without_repair_it_carries_what_a_random_graph_carries(result):
    off, control = result["reliability"]["off"], result["control"]["reliability_off"]
    assert off["80"] < 0.4
    assert off["80"] < off["50"] < 1.0
    assert control["80"] < control["50"] < 1.0
    assert result["reliability"]["on_use"]["80"] > off["80"]


def test_other_tools_can_compute_the_same_from_the_edges(result, edges):
    lines = [json.loads(line) for line in edges.read_text(encoding="utf-8").splitlines()]
    graph = {line["node"]: line["active"] for line in lines if "node" in line}
    floods = [line["hops"] for line in lines if "broadcast" in line]
    assert clustering(graph) == pytest.approx(result["clustering"])
    assert path_length(graph, list(graph)) == pytest.approx(result["path_length"])
    assert sum(max(hops.values()) for hops in floods) / len(floods) == pytest.approx(result["max_hops"])


def test_the_result_is_json_and_a_table_beside_the_paper(result):
    assert json.loads(json.dumps(result))["paper"]["clustering"] == 0.00092
    text = "\n".join(HYPARVIEW.table(result))
    assert "6.38542" in text
    assert "DSN 2007" in text

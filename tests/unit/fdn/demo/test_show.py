import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

import fdn
from fdn.demo.indexer import Index, Indexed
from fdn.demo.show import QUERIES, Demonstration
from fdn.demo.source import index_source
from fdn.local.cluster import ClusterPlan, LocalCluster, LocalNode
from fdn.runtime.facts import MemberDead, MemberSuspect


class Driver:
    """Answers `index.file` as three nodes in turn would."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, target: str, payload: Any, **options: Any) -> Indexed:
        assert target == "index.file"
        self.calls += 1
        turn = self.calls % 3
        await asyncio.sleep(0)
        context = fdn.Context(f"n{turn + 1}", "driver", target, "", "", 0.0)
        made = Index().file(payload, context)
        return Indexed(made.entry, made.node, 100 + turn)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def demonstration(tmp_path: Path, said: list[str]) -> Demonstration:
    cluster = LocalCluster(ClusterPlan(tmp_path))
    for number in range(3):
        name = cluster.plan.name(number)
        node = LocalNode(name, tmp_path / name, tmp_path / f"{name}.log", "")
        node.ready = {"node": f"{name}-1"}
        cluster.nodes.append(node)
    return Demonstration(cluster, Driver(), said.append, io.StringIO())  # type: ignore[arg-type]  # all it needs here


def test_each_file_is_dealt_once_and_half_way_is_noticed(demonstration: Demonstration, tmp_path: Path):
    files = [f"m{number}.py" for number in range(20)]
    for path in files:
        (tmp_path / path).write_text(f"def {Path(path).stem}(): ...\n")

    async def deal() -> None:
        demonstration._root, demonstration._files = tmp_path, tuple(files)
        demonstration._begin_work(0.0)
        demonstration._queue.extend(files)
        await demonstration._deal()
        assert demonstration._half_way.is_set()

    asyncio.run(deal())
    assert demonstration.ledger.is_complete(files)
    assert demonstration.ledger.answers == len(files)
    assert sum(demonstration.ledger.by_node().values()) == len(files)


def test_the_commands_to_try_name_a_node_that_has_the_answer(demonstration: Demonstration):
    assert "@n1" in demonstration.commands()[-1]
    entry = index_source("a.py", f"class {QUERIES[0]}: ...\n".encode())
    demonstration.ledger.record(Indexed(entry, "n3", 7))
    assert demonstration.commands()[-1] == f"fdn service call index.find@n3 '\"{QUERIES[0]}\"'"


def test_only_the_death_that_was_ordered_is_expected(demonstration: Demonstration, said: list[str]):
    demonstration._on_fact(MemberSuspect(0.0, "n3-1", "n3", "n1-1", "no ack"))
    assert said == ["n3 is suspected: no ack"]
    demonstration._on_fact(MemberDead(0.0, "n3-1", "n3", "n1-1", "no ack"))
    assert demonstration._falsely_dead == {"n3"}


def test_the_longest_time_without_a_result(demonstration: Demonstration):
    demonstration._files, demonstration._done_at = ("a.py",), [0.5, 1.1, 1.2, 1.5, 3.0]
    demonstration._tell_of_the_meantime(killed_at=1.0, back_at=2.0)
    assert demonstration.report.done_while_dead == 3
    assert demonstration.report.promises["work_went_on"]
    assert demonstration.report.gap_ms == pytest.approx(500.0)


def test_silence_after_the_last_file_is_no_gap(demonstration: Demonstration):
    demonstration._done_at = [0.5, 1.1]
    demonstration._tell_of_the_meantime(killed_at=1.0, back_at=2.0)
    assert demonstration.report.gap_ms == pytest.approx(100.0)


def test_work_that_stood_still_is_a_missed_promise(demonstration: Demonstration):
    demonstration._files, demonstration._done_at = ("a.py",), [0.5, 3.0]
    demonstration._tell_of_the_meantime(killed_at=1.0, back_at=2.0)
    assert demonstration.report.gap_ms == pytest.approx(1000.0)
    assert not demonstration.report.promises["work_went_on"]

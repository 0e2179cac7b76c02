import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fdn import running
from fdn.cli.root import run
from fdn.local import workers
from fdn.local.workers import Order, Voice
from fdn.node import Node


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdn.cli.log_setup.configure", lambda settings: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    Path("shop_of_this_test.py").write_text(
        "import fdn\napp = fdn.App('shop')\n\n\ndef make() -> fdn.App:\n    return app\n"
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Nodes that would have run in this process."""
    nodes: list[Node] = []

    def run_node(node: Node, **hooks: Any) -> int:
        nodes.append(node)
        return 0

    monkeypatch.setattr(running, "run_node", run_node)
    return nodes


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """What would have been supervised; it says that it is ready, and ends."""
    orders: list[Order] = []

    async def supervise(order: Order, voice: Voice) -> int:
        orders.append(order)
        voice.ready([{"event": "ready", "name": plan.name, "pid": 1, "endpoint": "tcp://h:1"} for plan in order.plans])
        return 0

    monkeypatch.setattr(workers, "supervise", supervise)
    return orders


def words(order: Order) -> list[dict[str, str]]:
    """The options of each worker."""
    return [
        dict(word.removeprefix("--").split("=", 1) for word in plan.arguments if word.startswith("--") and "=" in word)
        for plan in order.plans
    ]


def test_one_worker_is_this_process(started: list[Node], ordered: list[Order]) -> None:
    assert run(["run", "shop_of_this_test:app", "--name", "n1", "--alone"]) == 0
    assert run(["run", "shop_of_this_test:make"]) == 0
    assert [(node.settings.name, len(node._apps)) for node in started] == [("n1", 1), ("", 1)]
    assert ordered == []


def test_workers_have_names_ports_and_folders_of_their_own(
    ordered: list[Order], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--name", "n", "--bind", "tcp://127.0.0.1:7400+", "--data-dir", "d", "--cluster", "c", "-j", "h:1"]
    assert run(["run", "shop_of_this_test:app", "--workers", "3", *flags]) == 0
    (order,) = ordered
    assert order.seeds == ("tcp://h:1",)
    assert order.watch is None
    assert words(order) == [
        {"name": f"n-{number}", "bind": f"tcp://127.0.0.1:{port}+", "data-dir": f"d/n-{number}", "cluster": "c"}
        for number, port in ((1, 7400), (2, 7404), (3, 7408))
    ]
    assert all(plan.arguments[:2] == ("node", "run") for plan in order.plans)
    assert all(plan.arguments[-1] == "shop_of_this_test:app" for plan in order.plans)
    assert capsys.readouterr().out.splitlines()[0] == "worker n-1 is ready at tcp://h:1 (pid 1)"


def test_ephemeral_ports_and_a_name_that_stays(ordered: list[Order]) -> None:
    assert run(["run", "shop_of_this_test:app", "--workers", "2"]) == 0
    first, second = words(ordered[0])
    assert first["bind"] == second["bind"] == "tcp://127.0.0.1:0"
    assert first["name"].removesuffix("-1") == second["name"].removesuffix("-2")
    assert "data-dir" not in first


def test_reload_watches_the_source(ordered: list[Order], tmp_path: Path) -> None:
    Path("inner_of_this_test").mkdir()
    Path("inner_of_this_test/__init__.py").write_text("")
    assert run(["run", "shop_of_this_test:app", "--reload", "--name", "n"]) == 0
    assert run(["run", "inner_of_this_test.app:app", "--reload"]) == 0
    assert [plan.name for plan in ordered[0].plans] == ["n"]
    assert [order.watch for order in ordered] == [[Path.cwd()], [Path.cwd()]]


def test_source_that_lies_elsewhere(ordered: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere" / "far_of_this_test"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(elsewhere.parent))
    assert run(["run", "far_of_this_test.app:app", "--reload"]) == 0
    assert ordered[0].watch == [elsewhere]


def test_one_line_for_programs(ordered: list[Order], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "shop_of_this_test:app", "--workers", "2", "--name", "n", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["event"] == "ready"
    assert said["workers"] == [{"name": f"n-{number}", "pid": 1, "endpoint": "tcp://h:1"} for number in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "MODULE:APP"),
        (("shop_of_this_test",), "expected MODULE:APP"),
        (("shop_of_this_tset:app",), "did you mean"),
        (("shop_of_this_tset:app", "--workers", "2"), "did you mean"),
        (("shop_of_this_test:nothing",), "it has app"),
        (("shop_of_this_test:app", "--workers", "0"), "--workers"),
        (("shop_of_this_test:app", "--alone", "-j", "h:1"), "--alone"),
        (("shop_of_this_test:app", "--bind", "tcp://0.0.0.0:0"), "--insecure"),
        (
            (
                *("shop_of_this_test:app", "--workers", "2", "--advertise"),
                "coordination=tcp://h:1,gossip=tcp://h:2,data=tcp://h:3,events=tcp://h:4",
            ),
            "give it a host",
        ),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    arguments: tuple[str, ...],
    said: str,
    started: list[Node],
    ordered: list[Order],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, started, ordered) == ("", [], [])
    assert said in err

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fdn import running
from fdn.cli.root import run
from fdn.node import Node


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdn.cli.log_setup.configure", lambda settings: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Nodes that would have run, and what else was handed over."""
    nodes: list[dict[str, Any]] = []

    def run_node(node: Node, **hooks: Any) -> int:
        nodes.append({"node": node, **hooks})
        return 0

    monkeypatch.setattr(running, "run_node", run_node)
    return nodes


def write_app(name: str) -> None:
    Path(f"{name}.py").write_text("import fdn\napp = fdn.App()\n\n\nclass Holder:\n    app = app\n")


def test_flags_are_settings(started: list[dict[str, Any]]) -> None:
    flags = [
        "--name",
        "n1",
        "--bind",
        "tcp://127.0.0.1:0",
        "--cluster",
        "c",
        "--preset",
        "wan",
        "--advertise",
        "10.0.0.1",
    ]
    assert run(["node", "run", *flags, "-j", "10.0.0.2:1", "-j", "10.0.0.3:1", "--data-dir", "d"]) == 0
    settings = started[0]["node"].settings
    assert (settings.name, settings.cluster, settings.preset, settings.data_dir) == ("n1", "c", "wan", "d")
    assert settings.join == ("tcp://10.0.0.2:1", "tcp://10.0.0.3:1")


def test_precedence(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fdn.toml").write_text('name = "file"\ncluster = "file"\njoin = ["10.0.0.1:1"]\n')
    Path("other.toml").write_text('cluster = "other"\n')
    monkeypatch.setenv("FDN_CLUSTER", "env")
    assert run(["node", "run"]) == 0
    assert run(["node", "run", "--name", "flag", "--alone"]) == 0
    monkeypatch.delenv("FDN_CLUSTER")
    assert run(["node", "run", "--config", "other.toml"]) == 0
    assert run(["--join", "10.0.0.9:1", "node", "run"]) == 0
    found = [entry["node"].settings for entry in started]
    assert [(s.name, s.cluster, s.join) for s in found] == [
        ("file", "env", ("tcp://10.0.0.1:1",)),
        ("flag", "env", ()),
        ("", "other", ()),
        ("file", "file", ("tcp://10.0.0.9:1",)),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bind", "tcp://0.0.0.0:0"), "--insecure"),
        (("--bind", "nonsense"), "bind"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
        (("--preset", "moon"), "preset"),
        (("--name", "No!"), "name"),
        (("--alone", "--join", "h:1"), "--alone"),
        (("nosuchmodule:app",), "nosuchmodule"),
        (("calc",), "MODULE:APP"),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    arguments: tuple[str, ...], said: str, started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["node", "run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, started) == ("", [])
    assert said in err


def test_apps_are_found_from_here(started: list[dict[str, Any]]) -> None:
    write_app("calc_of_this_test")
    assert run(["node", "run", "calc_of_this_test:app"]) == 0
    assert len(started) == 1


def test_a_hangup_checks_the_configuration(started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "run"]) == 0
    hangup: Callable[[], None] = started[0]["on_hangup"]
    hangup()
    assert "unchanged" in capsys.readouterr().err
    Path("fdn.toml").write_text('cluster = "x"\n[calls]\ntimeout_s = 1\n')
    hangup()
    assert "from the next start on: cluster, calls.timeout_s" in capsys.readouterr().err
    Path("fdn.toml").write_text("clutser = 1\n")
    hangup()
    err = capsys.readouterr().err
    assert "keeps what it has" in err
    assert "did you mean cluster?" in err

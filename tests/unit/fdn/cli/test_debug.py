import io
import json
from pathlib import Path

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster

VECTORS = Path(__file__).parents[3] / "interop" / "vectors.json"
CALL = "01 91 96 05 a8 6d6174682e616464 07 cc fa c0 92 02 03"
FRAME = {"function": "main", "file": "app.py", "line": 3}


@pytest.fixture
def node(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    frames = [FRAME | {"code": "work()\x1b[2J"}]
    world.answers["fdn.node.stacks"] = lambda me, payload: [
        {"thread": "MainThread", "ident": 7, "daemon": False, "frames": frames}
    ]
    task = {"name": "Task-1", "coroutine": "main", "frames": [FRAME], "waits_for": "Future"}
    world.answers["fdn.node.loop"] = lambda me, payload: {
        "state": "stalled",
        "lag_ms": 700.0,
        "lag_worst_ms": 700.0,
        "where": "main (app.py:3)",
        "ready": None,
        "timers": 2,
        "tasks": 1,
        "shown": [task],
    }
    return world


@pytest.mark.usefixtures("node")
def test_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["debug", "stacks"]) == 0
    assert capsys.readouterr().out == "thread MainThread (7)\n  main  app.py:3\n      work()\ufffd[2J\n"
    assert run(["debug", "stacks", "n1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["thread"] == "MainThread"
    assert run(["debug", "stacks", "n9"]) == 4


@pytest.mark.usefixtures("node")
def test_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["debug", "loop"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["state   stalled", "lag     700 ms now, 700 ms at worst", "where   main (app.py:3)"]
    assert lines[3:5] == ["ready   not told", "timers  2"]
    assert lines[-2:] == ["task Task-1: main, waits for Future", "  main  app.py:3"]
    assert run(["debug", "loop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 1


def test_frames_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["debug", "frames", CALL]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "frame of 20 bytes, 1 envelopes read",
        "  at 2, 18 bytes: CALL (5)",
        "    to           'math.add'",
        "    id           7",
        "    deadline_ms  250",
        "    body         [2, 3]",
    ]


def test_frames_for_programs_and_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Input:
        buffer = io.BytesIO(f"{CALL}\n\n0191 9b\n".encode())

    monkeypatch.setattr("sys.stdin", Input())
    assert run(["debug", "frames", "-", "--json"]) == 9
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["problems"], good["envelopes"][0]["kind_name"]) == ([], "CALL")
    assert bad["problems"][0]["at"] == 3


def test_golden_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["debug", "frames", f"@{VECTORS}", "--vector", "hello client"]) == 0
    assert "HELLO (1)" in capsys.readouterr().out
    assert run(["debug", "frames", f"@{VECTORS}", "--vector", "to is not UTF-8", "--json"]) == 9
    assert "not UTF-8" in capsys.readouterr().out
    assert run(["debug", "frames", f"@{VECTORS}", "--vector", "nobody"]) == 4


def test_a_frame_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frame").write_bytes(bytes.fromhex(CALL))
    assert run(["debug", "frames", f"@{tmp_path / 'frame'}", "--bytes"]) == 0
    assert "CALL" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("xyz",), ("",), ("012",), ("@no/such/file",), (CALL, "--vector", "x")], ids=str)
def test_what_is_no_frame(arguments: tuple[str, ...]) -> None:
    assert run(["debug", "frames", *arguments]) == 2

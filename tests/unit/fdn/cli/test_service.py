import json
from pathlib import Path

import pytest

from fdn.cli.root import run
from fdn.errors import DeadlineExceeded, RemoteError, Unreachable
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture
def serving(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    rows = [
        {"node": node, "service": name, "methods": methods, "version": "", "capabilities": [], "state": "serving"}
        for node in ("n2", "n1")
        for name, methods in (("math", ["add", "sub"]), ("echo", [""]))
    ]
    world.answers["fdn.node.services"] = lambda me, payload: rows
    world.answers["math.add"] = lambda me, payload: sum(payload)
    world.answers["echo"] = lambda me, payload: payload
    return world


@pytest.mark.usefixtures("serving")
def test_ls_lists_each_service_on_each_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "ls"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["SERVICE", "NODE", "STATE", "VERSION", "METHODS"]
    assert [line[:2] for line in lines[1:]] == [["echo", "n1"], ["echo", "n2"], ["math", "n1"], ["math", "n2"]]
    assert run(["service", "ls", "math", "--json"]) == 0
    assert [(row["service"], row["node"]) for row in json.loads(capsys.readouterr().out)] == [
        ("math", "n1"),
        ("math", "n2"),
    ]


@pytest.mark.parametrize("command", [("service", "call"), ("request",)])
def test_the_result_is_json_whatever_it_is(
    serving: FakeCluster, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "math.add", "[2, 3]"]) == 0
    assert json.loads(capsys.readouterr().out) == 5
    assert run([*command, "echo"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    assert run([*command, "echo", '[{"a": 1}, 2]', "--json"]) == 0
    assert capsys.readouterr().out == '[{"a":1},2]\n'
    assert [asked[1:] for asked in serving.asked] == [
        ("math.add", [2, 3]),
        ("echo", None),
        ("echo", [{"a": 1}, 2]),
    ]


@pytest.mark.usefixtures("serving")
def test_raw_bytes_go_there_and_come_back(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["request", "echo", "caf\xe9", "--bytes"]) == 0
    assert capfdbinary.readouterr().out == "caf\xe9".encode()


def test_a_streamed_reply_is_a_line_for_each_item(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    serving.answers["count"] = lambda me, payload: iter(range(payload))
    assert run(["request", "count", "3", "--json"]) == 0
    assert capsys.readouterr().out == "0\n1\n2\n"


def test_items_are_the_request_stream(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    Path("numbers").write_text("1\n2\n3\n")
    assert run(["request", "math.add", "--items", "numbers"]) == 0
    assert capsys.readouterr().out == "6\n"
    assert run(["request", "math.add", "--items", "numbers", "--count", "2"]) == 2
    assert run(["request", "math.add", "-", "--items", "-"]) == 2


def test_headers_and_count(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["request", "echo", "1", "-H", "tenant:blue", "--count", "2"]) == 0
    assert capsys.readouterr().out == "1\n1\n"
    assert serving.headers == [{"tenant": "blue"}] * 2


@pytest.mark.usefixtures("serving")
def test_raw_text_has_no_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["request", "echo", '"caf\u00e9"', "--raw"]) == 0
    assert run(["request", "echo", '{"a": 1}', "--raw"]) == 0
    assert capsys.readouterr().out == 'caf\xe9\n{"a":1}\n'


@pytest.mark.usefixtures("serving")
def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "info", "math", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["targets"], row["nodes"]) == (["math.add", "math.sub"], ["n1", "n2"])
    assert run(["service", "info", "mat"]) == 4
    assert 'did you mean "math"?' in capsys.readouterr().err


def test_ping(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    serving.add("n2", 7410)
    assert run(["service", "ping", "math", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["answers"]) for row in rows] == [("n1", True), ("n2", True)]
    serving.refusals["tcp://127.0.0.1:7410"] = Unreachable("nobody is there")
    assert run(["service", "ping", "math"]) == 9
    assert "nobody is there" in capsys.readouterr().out
    assert run(["service", "ping", "nobody"]) == 4


def test_stats(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    serving.add("n2", 7410)
    counters = ("calls", "casts", "failed", "expired", "cancelled", "overloaded", "queued", "running")
    serving.answers["fdn.node.work"] = lambda me, payload: (
        {"dispatch": dict.fromkeys(counters, 7)} if me["name"] == "n1" else None
    )
    assert run(["service", "stats", "math", "--json"]) == 9
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["calls"], row["services"]) for row in rows] == [
        ("n1", 7, ["math"]),
        ("n2", None, ["math"]),
    ]
    assert "does not turn" in rows[1]["error"]
    assert run(["service", "stats", "nobody"]) == 4


def test_errors_have_their_status_and_traceback(serving: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    def crash(me: object, payload: object) -> None:
        raise RemoteError("boom", remote_type="ValueError", remote_traceback="File x, line 1", node="n1")

    def late(me: object, payload: object) -> None:
        raise DeadlineExceeded("too late")

    serving.answers |= {"crash": crash, "late": late}
    assert run(["service", "call", "crash"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: ValueError: boom\nTraceback on n1:\nFile x, line 1\n"
    assert run(["service", "call", "late"]) == 5
    assert run(["service", "call", "nobody.knows"]) == 4
    assert run(["service", "call"]) == 2

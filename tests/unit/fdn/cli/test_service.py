import json

import pytest

from fdn.cli.root import run
from fdn.errors import DeadlineExceeded, RemoteError
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
    assert run([*command, "echo", '[{"a": 1}, 2]', "-o", "ndjson"]) == 0
    assert capsys.readouterr().out == '{"a":1}\n2\n'
    assert [asked[1:] for asked in serving.asked] == [
        ("math.add", [2, 3]),
        ("echo", None),
        ("echo", [{"a": 1}, 2]),
    ]


@pytest.mark.usefixtures("serving")
def test_raw_bytes_go_there_and_come_back(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["request", "echo", "caf\xe9", "--bytes"]) == 0
    assert capfdbinary.readouterr().out == "caf\xe9".encode()


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

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from fdn.cli.reply import Command
from fdn.cli.root import run
from fdn.client.handlers import ClientContext
from fdn.errors import DeadlineExceeded, Error, Unreachable
from tests.unit.fdn.cli.fakes import FakeClient, FakeCluster

CONTEXT = ClientContext("text.upper", "n2-id", {"tenant": "blue", "x-y": "z", "no good": "-"}, 0.0)
PYTHON = sys.executable


class Service:
    """As much of a client's service as the command uses: requests come while it waits."""

    def __init__(self, name: str, handler: Callable[..., Any], requests: int) -> None:
        self.name = name
        self.running = 0
        self.replies: list[Any] = []
        self._handler = handler
        self._requests = requests

    def wait(self) -> None:
        for number in range(self._requests):
            self.replies.append(self._handler({"n": number}, CONTEXT))
        if self.name == "refused":
            raise Unreachable("the node has ended it")
        threading.Event().wait(30 if self.name == "echo" else 0)


served: list[Service] = []


@pytest.fixture(autouse=True)
def _serving(world: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("n1", 7400)
    served.clear()

    @contextlib.contextmanager
    def serve(self: FakeClient, name: str, handler: Callable[..., Any], *, concurrency: int) -> Iterator[Service]:
        served.append(Service(name, handler, 2))
        yield served[-1]

    monkeypatch.setattr(FakeClient, "serve", serve, raising=False)


def test_until_it_has_been_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reply", "echo", "--echo", "--count", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == 'text.upper  {"n": 0}\ntext.upper  {"n": 1}\n'
    assert err == "serving echo at n1\n"
    assert served[0].replies == [{"n": 0}, {"n": 1}]


def test_what_the_node_ends_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reply", "refused", "1"]) == 3
    assert "the node has ended it" in capsys.readouterr().err


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reply", "greeting", '"hello"', "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    assert rows[0] == {
        "target": "text.upper",
        "caller": "n2-id",
        "headers": {"tenant": "blue", "x-y": "z", "no good": "-"},
        "payload": {"n": 0},
    }
    assert served[0].replies == ["hello"] * 2


@pytest.mark.parametrize("arguments", [(), ("1", "--echo"), ("--echo", "--command", "x"), ("not json",)], ids=str)
def test_one_thing_to_reply(arguments: tuple[str, ...]) -> None:
    assert run(["reply", "x", *arguments]) == 2
    assert served == []


def test_a_program_gets_payload_and_environment() -> None:
    script = (
        "import json, os, sys; print(json.dumps([json.load(sys.stdin), os.environ['FDN_TARGET'],"
        " os.environ['FDN_CALLER'], os.environ['FDN_HEADER_TENANT'], os.environ['FDN_HEADER_X_Y']]))"
    )
    command = Command(f'{PYTHON} -c "{script}"')
    assert command.answer({"a": "\xe9"}, CONTEXT) == [{"a": "\xe9"}, "text.upper", "n2-id", "blue", "z"]


def test_what_is_no_json_is_text() -> None:
    assert Command("echo two words").answer(None, CONTEXT) == "two words"
    assert Command("true").answer(None, CONTEXT) == ""
    assert Command("echo 7").answer(None, CONTEXT) == 7


def test_a_failure_is_the_callers_to_see() -> None:
    with pytest.raises(Error, match=r"sh ended with status 3: no luck"):
        Command("sh -c 'echo no luck >&2; exit 3'").answer(None, CONTEXT)
    with pytest.raises(Error, match="no-such-program cannot be run"):
        Command("no-such-program").answer(None, CONTEXT)


def test_a_program_is_killed_when_the_callers_time_is_up() -> None:
    with pytest.raises(DeadlineExceeded):
        Command("sleep 60").answer(None, CONTEXT._replace(deadline_at=time.monotonic() + 0.05))


@pytest.mark.parametrize("line", ["", "'half"], ids=repr)
def test_what_names_no_program(line: str) -> None:
    with pytest.raises(click.BadParameter):
        Command(line)

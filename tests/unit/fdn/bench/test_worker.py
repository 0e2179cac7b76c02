import importlib
import io
import json
import os
import sys

import pytest

from fdn.bench.worker import ROLES, Worker, orders, until
from fdn.errors import Error


def test_numbers_up_to_a_limit_or_a_time() -> None:
    assert list(until(10, 60.0, 4)) == list(range(10))
    assert list(until(10**9, 0.0, 4)) == [0, 1, 2, 3]  # never nothing


def test_a_worker_answers_each_order_until_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO('{"order": "a"}\n{"order": "b", "n": 2}\n'))
    monkeypatch.setattr("sys.stdout", out)
    orders({"ready": True}, lambda order: {"did": order["order"]})
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"ready": True}, {"did": "a"}, {"did": "b"}]


def test_a_worker_is_a_process_of_its_own_and_ends_with_its_block() -> None:
    with Worker("raw-receiver", endpoint="tcp://127.0.0.1:*") as worker:
        assert set(worker.ready) == {"pull", "dealer", "bulk"}
        pid = worker._process.pid
        assert pid != os.getpid()
    assert worker._process.returncode == 0
    worker.close()


def test_a_failure_does_not_wait_for_the_round() -> None:
    worker = Worker("raw-receiver", endpoint="tcp://127.0.0.1:*")

    def measure() -> None:
        with worker:
            worker.tell("count")  # which goes on for ever, for nobody sends
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure()
    assert worker._process.returncode == -9


def test_a_worker_that_ends_or_hangs_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Error, match="raw-receiver process ended with status 1"):
        Worker("raw-receiver", endpoint="pigeon://")
    assert "Traceback" in capfd.readouterr().err
    with Worker("raw-receiver", endpoint="tcp://127.0.0.1:*") as worker:
        worker.tell("count")
        with pytest.raises(Error, match="did not answer within"):
            worker.answer(0.01)
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(Error, match="ended with status -9"):
            worker.tell("echo")


def test_every_role_is_there() -> None:
    kinds: dict[str, tuple[str, ...]] = {"event": ("publisher", "subscriber"), "stream": ("client", "server")}
    kinds |= dict.fromkeys(("b0", "large", "mixed", "node", "raw", "shared"), ("receiver", "sender")) | {
        "blob": ("holder", "taker"),
        "load": ("member",),
        "overload": ("client", "server"),
    }
    assert set(ROLES) == {f"{kind}-{side}" for kind, sides in kinds.items() for side in sides}
    for place in ROLES.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_program_of_somebody_else_speaks_the_same_lines() -> None:
    said = 'import json, sys; print(json.dumps({"role": sys.argv[1], **json.loads(sys.argv[2])}), flush=True)'
    with Worker("publisher", (sys.executable, "-c", said), server="s:1") as worker:
        assert worker.ready == {"role": "publisher", "server": "s:1"}

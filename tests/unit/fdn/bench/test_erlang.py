import shutil
import subprocess
import sys
import time

import pytest

from fdn.bench import erlang
from fdn.errors import Error

needed = pytest.mark.skipif(bool(erlang.missing()), reason=f"Distributed Erlang: {erlang.missing()}")


def test_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert erlang.missing() == "not installed: escript, epmd (Debian: erlang-base)"
    with pytest.raises(Error, match="erlang-base"), erlang.pair():
        pass
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert erlang.missing() == ""


def test_a_name_server_that_does_not_start_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        with pytest.raises(Error, match="does not listen on port 1"):
            erlang._wait_listening(process, 1)


def test_the_program_goes_with_the_package() -> None:
    assert erlang.SCRIPT.is_file()


@needed
def test_messages_round_trips_and_a_schedule() -> None:
    with erlang.pair() as (receiver, sender):
        assert receiver.ready["otp"].isdigit()
        cast = sender.ask("cast", 30.0, size=100, count=1000)
        tally = receiver.ask("tally", 30.0, expected=1000)
        assert (cast["sent"], tally["received"], tally["bytes"]) == (1000, 1000, 100_000)
        assert tally["ended_at"] > cast["started_at"]
        latency = sender.ask("latency", 30.0, size=64, count=100)
        assert len(latency["durations_s"]) == 100
        assert min(latency["durations_s"]) > 0
        many = sender.ask("calls", 30.0, size=64, count=1000, in_flight=10)
        assert many["calls"] == 1000
        idle = sender.ask("idle", 30.0, rate=200, seconds=0.25)
        assert (len(idle["durations_s"]), idle["sent"]) == (50, 0)
        saturated = sender.ask("saturated", 30.0, rate=200, seconds=0.25, size=100_000, senders=2)
        assert len(saturated["durations_s"]) == 50
        expected = 1000 + saturated["sent"]
        assert receiver.ask("tally", 30.0, expected=expected)["received"] == expected > 1000


@needed
def test_a_sender_may_be_led_another_way() -> None:
    ways: list[tuple[str, int]] = []

    def through(name: str, port: int) -> int:
        ways.append((name, port))
        return port

    with erlang.pair(through) as (receiver, sender):
        puts = sender.ask("puts", 30.0, size=1000, seconds=0.1, in_flight=4)
        assert puts["sent"] == puts["received"] > 0
        assert puts["elapsed_s"] >= 0.1
        ((name, port),) = ways
        assert receiver.ready["node"] == f"{name}@127.0.0.1"
        assert port > 0


@needed
def test_a_node_that_nobody_knows_is_an_error() -> None:
    with erlang._name_server() as port, pytest.raises(Error, match="does not know nobody"):
        erlang._registered(port, "nobody")


@needed
def test_what_does_not_come_is_not_waited_for_for_ever() -> None:
    with erlang.pair() as (receiver, _):
        assert receiver.ask("tally", 30.0, expected=1)["received"] == 0


@needed
def test_its_clock_is_ours() -> None:
    with erlang.pair() as (receiver, _):
        before = time.monotonic()
        at = receiver.ask("clock", 30.0)["at"]
        assert before < at < time.monotonic()

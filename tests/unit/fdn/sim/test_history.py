import json

import pytest

from fdn.sim.history import History, Outcome, from_json_lines
from fdn.sim.world import World


@pytest.fixture
def history():
    world = World(1)
    history = History(world)
    put = history.invoke(0, "put", "x", 1)
    get = history.invoke(1, "get", "x")
    history.invoke(2, "cas", "x", [1, 2])
    late = history.invoke(3, "delete", "x")
    world.run(0.5)
    history.ok(put)
    history.ok(get, 1)
    history.fail(late)
    return history


def test_times_are_of_one_clock_and_all_different(history):
    put, get, cas, late = history.operations
    times = [put.invoke_ns, get.invoke_ns, cas.invoke_ns, late.invoke_ns, put.return_ns, get.return_ns, late.return_ns]
    assert times == sorted(set(times))
    assert put.return_ns - put.invoke_ns == pytest.approx(0.5e9, abs=10)
    assert cas.return_ns is None
    assert [it.outcome for it in (put, get, cas, late)] == [Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAIL]


def test_others_can_read_it(history):
    lines = [json.loads(line) for line in history.json_lines()]
    assert set(lines[1]) == {"process", "op", "key", "input", "output", "invoke_ns", "return_ns", "outcome"}
    assert (lines[1]["op"], lines[1]["output"], lines[1]["outcome"]) == ("get", 1, "ok")
    assert "return_ns" not in lines[2]


def test_what_was_written_is_read_back(history):
    again = from_json_lines(["", *history.json_lines()])
    assert [str(it) for it in again] == [str(it) for it in history.operations]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"outcome": "maybe"}', '{"outcome": "ok", "colour": "red"}'])
def test_a_line_that_is_no_operation_is_named(line):
    with pytest.raises(ValueError, match="line 1 is no operation"):
        from_json_lines([line])

"""What waits for a node, and what a node says of itself, without one that serves."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fdn
from fdn.testing.node_process import NodeProcess, Plan, audible_interrupts, eventually, first_line, tail_of


def test_eventually_returns_the_answer_and_takes_an_error_for_no():
    answers = iter([0, fdn.Unreachable("not yet"), "yes"])

    def probe() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert eventually("an answer", probe) == "yes"


def test_eventually_tells_the_last_answer():
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon; last: \[\]"):
        eventually("the moon", list, 0.05)


def test_first_line_of_a_command():
    with subprocess.Popen([sys.executable, "-c", "print('one\\ntwo')"], stdout=subprocess.PIPE, text=True) as process:
        assert first_line(process) == "one\n"
        assert first_line(process) == "two\n"
        assert first_line(process) == ""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert first_line(process, 0.01) == ""


def test_a_node_that_cannot_start_says_why(tmp_path: Path):
    environment = {"PYTHONPATH": str(Path(fdn.__file__).parents[1])}
    plan = Plan(tmp_path, environment, "test", "tcp://127.0.0.1:0", app="nowhere:app")
    node = NodeProcess("n1", plan, lambda node: [])
    assert (node.pid, node.runs, node.log) == (0, False, "")
    with pytest.raises(AssertionError, match=r"(?s)^node n1 ended with status 2:.*there is no module"):
        node.start()
    assert repr(node) == f"<node n1, pid {node.pid}, ended>"
    assert "there is no module" in node.wait_log("nowhere")
    node.close()
    node.close()


def test_processes_hear_an_interrupt_that_this_one_ignores():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with audible_interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_end_of_a_log():
    assert tail_of("a\nb\nc\n", 3) == "a\nb\nc"
    assert tail_of("a\nb\nc\n", 2) == "...\nb\nc"

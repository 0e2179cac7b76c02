import json
from pathlib import Path

import pytest

from fdn.errors import ConfigError, Conflict, Error
from fdn.local.cluster import ClusterPlan, describe_end, start_error

LOG = Path("/tmp/n1.log")
PLAN = ClusterPlan(LOG.parent)


def test_ports_go_up_in_groups_of_four_and_are_searched_for():
    assert [PLAN.bind(number) for number in range(3)] == [
        "tcp://127.0.0.1:7400+",
        "tcp://127.0.0.1:7404+",
        "tcp://127.0.0.1:7408+",
    ]
    assert [PLAN.name(number) for number in range(2)] == ["n1", "n2"]


def test_ports_that_were_asked_for_are_taken_or_refused():
    assert ClusterPlan(LOG.parent, base_port=9000, search=False).bind(1) == "tcp://127.0.0.1:9004"


def test_ephemeral_ports():
    assert ClusterPlan(LOG.parent, base_port=0).bind(2) == "tcp://127.0.0.1:0"


@pytest.mark.parametrize(
    ("status", "words"), [(3, "ended with status 3"), (-9, "was ended by SIGKILL"), (-255, "was ended by signal 255")]
)
def test_the_end_of_a_process_in_words(status: int, words: str):
    assert describe_end(status) == words


def written(**error: object) -> str:
    return "a line of the log\n" + json.dumps({"error": error}) + "\n"


def test_a_nodes_own_error_is_passed_on():
    text = written(code="config", message="fdn.toml:3: unknown key nmae", hint="did you mean name?", exit=2)
    error = start_error("n1", 2, text, LOG, PLAN)
    assert type(error) is ConfigError
    assert str(error) == "node n1 did not start: fdn.toml:3: unknown key nmae; did you mean name?"
    assert error.__notes__ == [f"its log is {LOG}"]


def test_a_taken_port_says_which_option_of_this_command_helps():
    text = written(code="conflict", message="tcp://127.0.0.1:9000 is taken by another process", hint="bind")
    error = start_error("n1", 8, text, LOG, ClusterPlan(LOG.parent, base_port=9000, search=False))
    assert isinstance(error, Conflict)
    assert error.hint == "name another first port with --base-port (now 9000), or 0 for any"


def test_a_node_that_says_nothing_orderly_is_quoted():
    error = start_error("n2", -11, "Traceback\nSegmentation fault\n\n", LOG, PLAN)
    assert type(error) is Error
    assert error.message == "node n2 was ended by SIGSEGV before it was ready: Segmentation fault"
    assert str(LOG) in error.hint


@pytest.mark.parametrize("text", ["", "\n", '{"error": \n', '{"error": {}}\n'])
def test_whatever_a_node_wrote_an_error_comes_of_it(text: str):
    assert start_error("n1", 1, text, LOG, PLAN).message.startswith("node n1 ended with status 1 before")

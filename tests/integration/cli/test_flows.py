"""Streams, headers, and names served from the shell, as a person types them."""

import json
import signal
from pathlib import Path

import pytest

from fdn.testing import NodeProcess, ProcessCluster, eventually, first_line


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    started = cluster.start(2, app="tests.integration.cli.flows:app")
    cluster.environment |= {"FDN_JOIN": ",".join(node.endpoint for node in started), "FDN_CLUSTER": "test"}
    return started


@pytest.mark.usefixtures("nodes")
def test_a_streamed_reply_is_ndjson(cluster: ProcessCluster) -> None:
    done = cluster.command("request", "flow.count", "3")
    assert (done.returncode, done.stdout) == (0, "0\n1\n2\n")
    broken = cluster.command("request", "flow.broken")
    assert (broken.returncode, broken.stdout) == (1, "1\n")
    assert broken.stderr.startswith("error: ValueError: in the middle\n")


@pytest.mark.usefixtures("nodes")
def test_items_come_as_they_are_made_and_ctrl_c_closes_the_generator(cluster: ProcessCluster, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    process = cluster.spawn("request", "flow.endless@n1", "--timeout", "60s", errors=errors)
    assert first_line(process) == "0\n"
    assert cluster.command("request", "flow.open@n1").stdout == "1\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert errors.read_text() == ""
    eventually("the generator is closed", lambda: cluster.command("request", "flow.open@n1").stdout == "0\n")


@pytest.mark.usefixtures("nodes")
def test_a_stream_that_is_silent_for_too_long(cluster: ProcessCluster) -> None:
    done = cluster.command("request", "flow.endless", "--timeout", "300ms")
    assert (done.returncode, done.stdout) == (5, "0\n")


@pytest.mark.usefixtures("nodes")
def test_a_request_stream_from_standard_input_or_a_file(cluster: ProcessCluster) -> None:
    assert cluster.command("request", "flow.total", "--items", "-", given="1\n2\n\n39\n").stdout == "42\n"
    (cluster.folder / "numbers.ndjson").write_text("1\n2\n3")
    assert cluster.command("request", "flow.doubled", "--items", "numbers.ndjson").stdout == "2\n4\n6\n"
    wrong = cluster.command("request", "flow.total", "--items", "-", given="1\noops\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "line 2 of the items is not JSON" in wrong.stderr


@pytest.mark.usefixtures("nodes")
def test_a_header_reaches_the_handler(cluster: ProcessCluster) -> None:
    assert cluster.command("request", "flow.tenant", "-H", "tenant: blue").stdout == '"blue"\n'
    assert cluster.command("request", "flow.tenant", "-H", "tenant: blue", "--raw").stdout == "blue\n"


@pytest.mark.usefixtures("nodes")
def test_a_header_reaches_the_subscriber(cluster: ProcessCluster, tmp_path: Path) -> None:
    listening = cluster.spawn("sub", "orders.>", "--count", "2", "--json", errors=tmp_path / "errors")
    eventually("it is subscribed", lambda: "subscribed" in (tmp_path / "errors").read_text())
    given = '{"id": 1}\n{"id": 2}\n'
    assert cluster.command("pub", "orders.eu", "-H", "tenant:blue", "--items", "-", given=given).returncode == 0
    assert listening.wait(20) == 0
    assert listening.stdout is not None
    events = [json.loads(line) for line in listening.stdout]
    assert [(event["payload"]["id"], event["headers"]) for event in events] == [
        (1, {"tenant": "blue"}),
        (2, {"tenant": "blue"}),
    ]


def test_a_name_served_from_the_shell(cluster: ProcessCluster, nodes: list[NodeProcess], tmp_path: Path) -> None:
    serving = cluster.spawn(
        *("reply", "text.upper", "--command", "sh -c 'tr a-z A-Z; echo $FDN_HEADER_TENANT >&2'"),
        *("--count", "3", "--json", "-j", nodes[0].endpoint),
        errors=tmp_path / "errors",
    )
    eventually(
        "the name is offered",
        lambda: cluster.command("service", "info", "text.upper", "-j", nodes[1].endpoint).returncode == 0,
    )
    for _ in range(3):
        done = cluster.command("request", "text.upper", '"hello"', "-H", "tenant:blue", "-j", nodes[1].endpoint)
        assert (done.returncode, done.stdout) == (0, '"HELLO"\n'), done.stderr
    assert serving.wait(20) == 0
    assert serving.stdout is not None
    told = [json.loads(line) for line in serving.stdout]
    assert [(row["target"], row["payload"], row["headers"]) for row in told] == [
        ("text.upper", "hello", {"tenant": "blue"})
    ] * 3


def test_a_program_that_fails_is_an_error_to_the_caller(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    serving = cluster.spawn("reply", "fails", "--command", "sh -c 'echo no luck >&2; exit 3'")
    eventually("the name is offered", lambda: cluster.command("service", "info", "fails").returncode == 0)
    done = cluster.command("request", "fails")
    assert (done.returncode, done.stdout) == (1, "")
    assert "sh ended with status 3: no luck" in done.stderr
    serving.send_signal(signal.SIGINT)
    assert serving.wait(20) == 130
    eventually("the name is withdrawn", lambda: cluster.command("service", "info", "fails").returncode == 4)


def test_what_runs_until_ctrl_c_goes_on_with_another_node(
    cluster: ProcessCluster, nodes: list[NodeProcess], tmp_path: Path
) -> None:
    listening = cluster.spawn("sub", "orders.>", "--raw", errors=tmp_path / "errors")
    eventually("it is subscribed", lambda: "subscribed" in (tmp_path / "errors").read_text())
    nodes[0].kill()

    def heard() -> bool:
        assert cluster.command("pub", "orders.eu", "7").returncode == 0
        return first_line(listening, 0.5) == "7\n"

    eventually("it hears what is published now", heard)


def test_a_node_whose_code_is_stuck_is_looked_into(cluster: ProcessCluster) -> None:
    (node,) = cluster.start(1, app="tests.integration.apps:app")
    cluster.environment |= {"FDN_JOIN": node.endpoint, "FDN_CLUSTER": "test"}
    calling = cluster.spawn("request", "block.sleep", "20", "--timeout", "60s")
    stacks = eventually(
        "it is stuck", lambda: next((s for s in [cluster.command("debug", "stacks").stdout] if "Block.sleep" in s), "")
    )
    assert "time.sleep(seconds)" in stacks
    loop = json.loads(cluster.command("debug", "loop", "--json").stdout)
    assert loop["lag_ms"] > 0
    assert "sleep (apps.py:" in loop["where"]
    channels = cluster.command("channel", "ls", "--json")
    assert [row["answered"] for row in json.loads(channels.stdout)] == [True, True, False, False]
    assert "does not turn" in channels.stderr
    assert cluster.command("service", "stats").returncode == 9
    assert cluster.command("service", "ping", "math", "--timeout", "500ms").returncode == 9
    calling.kill()

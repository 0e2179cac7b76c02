"""Every command there is, found by asking click: its help, its data, its mistakes, and how it ends.

A command that is new needs a line in `PLANS`, or the first test fails.
"""

import dataclasses
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from fdn.cli.root import root
from fdn.testing import NodeProcess, ProcessCluster, first_line


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one command is tried.

    Attributes:
        arguments: What a good call says behind the command's name. SEED is the address of a node.
        talks: Whether it needs a running cluster.
        statuses: How a good call may end.
        missing: What names something that is not there, for commands that can be asked for such a thing.
        interrupted: How it ends after Ctrl-C, for commands that run until then; None for those that end by themselves.
        first: For those, what makes the first line come.
        given: On standard input.
        before: Commands that have to be run before it.
        folder: Where it is run, once those have made it.
    """

    arguments: Sequence[str] = ()
    talks: bool = True
    statuses: Sequence[int] = (0,)
    missing: Sequence[str] = ()
    interrupted: int | None = None
    first: Sequence[str] = ()
    given: str = ""
    before: Sequence[Sequence[str]] = ()
    folder: str = ""


ALONE = ("--alone", "--bind", "tcp://127.0.0.1:0", "--cluster", "other")
SHOP = ("context", "add", "shop", "SEED")
PLANS = {
    "up": Plan(("1", "--base-port", "0"), talks=False, interrupted=0),
    "run": Plan(("tests.integration.apps:app", *ALONE), talks=False, interrupted=0),
    "new app": Plan(("shop",), talks=False),
    "new service": Plan(("billing",), talks=False, before=(("new", "app", "shop"),), folder="shop"),
    "node run": Plan(ALONE, talks=False, interrupted=0),
    "agent": Plan(ALONE, talks=False, interrupted=0),
    "members": Plan(missing=("nobody",)),
    "members --watch": Plan(interrupted=130),
    "info": Plan(missing=("nobody",)),
    "join": Plan(("SEED",)),
    "leave": Plan(("n2", "--dry-run"), missing=("nobody", "--yes")),
    "service ls": Plan(),
    "service ls --watch": Plan(interrupted=130),
    "service info": Plan(("math",), missing=("nobody",)),
    "service ping": Plan(("math",), missing=("nobody",)),
    "service stats": Plan(missing=("nobody",)),
    "service call": Plan(("math.add", "[2, 3]"), missing=("nobody.knows",)),
    "request": Plan(("math.add", "[2, 3]", "-H", "tenant:blue"), missing=("nobody.knows",)),
    "pub": Plan(("orders.eu", "--items", "-"), given='{"id": 7}\n{"id": 8}\n'),
    "sub": Plan(("orders.>",), interrupted=130, first=("pub", "orders.eu", "7")),
    "reply": Plan(("echo.here", "--echo"), interrupted=130, first=("request", "echo.here", "7")),
    "channel ls": Plan(missing=("--node", "nobody")),
    "channel ls --watch": Plan(interrupted=130),
    "channel stat": Plan(("data",), missing=("data", "--node", "nobody")),
    "channel stat --watch": Plan(("coordination",), interrupted=130),
    "rtt": Plan(("--count", "3"), missing=("nobody",)),
    "reachability": Plan(),
    "why": Plan(("n2",), missing=("nobody",)),
    "config show": Plan(talks=False),
    "config explain": Plan(("bind",), talks=False, missing=("nothing",)),
    "config validate": Plan(talks=False),
    "bench cast": Plan(("--count", "100", "--handler", "def"), talks=False),
    "bench call": Plan(("--count", "100", "--handler", "def"), talks=False),
    "bench events": Plan(("--count", "100", "--subscribers", "1", "--form", "function"), talks=False),
    "bench stream": Plan(("--count", "100"), talks=False),
    "bench mixed": Plan(("--duration", "500ms", "--size", "1MiB"), talks=False),
    "bench large": Plan(("--duration", "50ms", "--sizes", "64KiB"), talks=False),
    "bench shared": Plan(("--duration", "50ms", "--sizes", "64KiB", "--handles", "64KiB"), talks=False),
    "bench blob": Plan(("--size", "256KiB", "--times", "1"), talks=False),
    "bench load": Plan(("--duration", "100ms", "--nodes", "2", "--bulk-size", "64KiB"), talks=False),
    "bench overload": Plan(("--duration", "300ms", "--deadline", "200ms", "--handler", "def"), talks=False),
    "bench stall": Plan(("--scenario", "idle"), talks=False),
    "doctor": Plan(talks=False, statuses=(0, 9)),  # this machine need not be fit
    "debug stacks": Plan(missing=("nobody",)),
    "debug loop": Plan(missing=("nobody",)),
    "debug frames": Plan(("0191960502",), talks=False, statuses=(9,)),
    "context add": Plan(("shop", "127.0.0.1:7400"), talks=False),
    "context ls": Plan(talks=False),
    "context use": Plan(("shop",), talks=False, before=(SHOP,), missing=("nowhere",)),
    "context show": Plan(("shop",), talks=False, before=(SHOP,), missing=("nowhere",)),
    "context rm": Plan(("shop", "--yes"), talks=False, before=(SHOP,), missing=("nowhere", "--yes")),
    "completion": Plan(("bash",), talks=False),
    "cheat": Plan(talks=False, missing=("cooking",)),
    "version": Plan(talks=False),
}


def tree(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            path = f"{context.command_path} {name}".removeprefix("fdn ")
            yield path, inner
            yield from tree(inner, click.Context(inner, info_name=name, parent=context))


COMMANDS = dict(tree(root, click.Context(root, info_name="fdn")))
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]
GROUPS = [path for path in COMMANDS if path not in LEAVES]
WATCHED = [
    f"{path} --watch" for path in LEAVES if any("--watch" in parameter.opts for parameter in COMMANDS[path].params)
]
# Those without a plan fail in the first test, which says so better.
ENDING = [path for path in LEAVES if path in PLANS and PLANS[path].interrupted is None]
RUNNING = [path for path, plan in PLANS.items() if plan.interrupted is not None]
TALKING = [path for path in LEAVES if path in PLANS and PLANS[path].talks]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProcessCluster, list[NodeProcess]]]:
    with ProcessCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running, running.start(2, app="tests.integration.apps:app")


@pytest.fixture
def here(nodes: tuple[ProcessCluster, list[NodeProcess]], tmp_path: Path) -> ProcessCluster:
    """The cluster, with a home for commands that is this test's own."""
    running, (first, _) = nodes
    running.folder = tmp_path
    running.environment |= {
        "FDN_JOIN": first.endpoint,
        "FDN_CLUSTER": "test",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    return running


@pytest.fixture
def nowhere(here: ProcessCluster) -> Iterator[ProcessCluster]:
    """Where no cluster runs. Port 1 belongs to a service that nobody has."""
    seed = here.environment["FDN_JOIN"]
    here.environment["FDN_JOIN"] = "127.0.0.1:1"
    yield here
    here.environment["FDN_JOIN"] = seed


def words(here: ProcessCluster, *parts: str) -> list[str]:
    return [here.nodes[0].endpoint if part == "SEED" else part for part in parts]


def prepared(path: str, here: ProcessCluster) -> Plan:
    plan = PLANS[path]
    for before in plan.before:
        assert here.command(*words(here, *before)).returncode == 0
    here.folder /= plan.folder
    return plan


def test_every_command_has_a_plan() -> None:
    assert set(PLANS) == {*LEAVES, *WATCHED}


@pytest.mark.parametrize("path", COMMANDS)
def test_help(path: str, here: ProcessCluster) -> None:
    done = here.command(*path.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: fdn {path} ")
    assert "\n  Examples:\n" in done.stdout


@pytest.mark.parametrize("path", GROUPS)
def test_a_group_alone_shows_its_help_and_is_a_mistake(path: str, here: ProcessCluster) -> None:
    done = here.command(*path.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Usage: fdn {path} " in done.stderr
    wrong = here.command(*path.split(), "nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "nonsense" in wrong.stderr


@pytest.mark.parametrize("path", LEAVES)
def test_a_wrong_argument(path: str, here: ProcessCluster) -> None:
    done = here.command(*path.split(), "--no-such-option")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert f"hint: Usage: fdn {path} " in done.stderr
    done = here.command(*path.split(), "--no-such-option", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"]["code"] == "usage"


@pytest.mark.parametrize("path", ENDING)
def test_json_is_one_document_or_one_a_line(path: str, here: ProcessCluster) -> None:
    plan = prepared(path, here)
    done = here.command(*path.split(), *words(here, *plan.arguments), "--json", given=plan.given, timeout_s=60.0)
    assert done.returncode in plan.statuses, done.stderr
    assert "Traceback" not in done.stderr
    json.loads(done.stdout)


@pytest.mark.parametrize("path", RUNNING)
def test_ctrl_c_ends_what_runs_until_then(path: str, here: ProcessCluster, tmp_path: Path) -> None:
    plan = PLANS[path]
    errors = tmp_path / "errors"
    process = here.spawn(*path.split(), *plan.arguments, "--json", errors=errors)
    line = _first_line(process, here, plan)
    json.loads(line)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == plan.interrupted, errors.read_text()
    assert "Traceback" not in errors.read_text()


def _first_line(process: "subprocess.Popen[str]", here: ProcessCluster, plan: Plan) -> str:
    for _ in range(20 if plan.first else 0):
        # It may not be ready yet when the first is sent.
        if here.command(*plan.first).returncode:
            continue
        if line := first_line(process, 0.5):
            return line
    return first_line(process)


@pytest.mark.parametrize("path", TALKING)
def test_no_cluster_is_said_and_how_to_get_one(path: str, nowhere: ProcessCluster) -> None:
    arguments = [*path.split(), *words(nowhere, *PLANS[path].arguments), "--timeout", "5s"]
    done = nowhere.command(*arguments, given=PLANS[path].given)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: no node answers at tcp://127.0.0.1:1")
    assert "hint: start a cluster (fdn up), or name a node that runs: --join HOST:PORT" in done.stderr
    done = nowhere.command(*arguments, "--json", given=PLANS[path].given)
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"]["exit"] == 3


@pytest.mark.parametrize("path", [path for path in ENDING if not PLANS[path].talks and not path.startswith("bench")])
def test_some_need_no_cluster(path: str, nowhere: ProcessCluster) -> None:
    plan = prepared(path, nowhere)
    done = nowhere.command(*path.split(), *words(nowhere, *plan.arguments), given=plan.given, timeout_s=60.0)
    assert done.returncode in plan.statuses, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", [path for path, plan in PLANS.items() if plan.missing])
def test_what_is_not_there(path: str, here: ProcessCluster) -> None:
    done = here.command(*path.split(), *PLANS[path].missing)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr

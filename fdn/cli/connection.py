"""How a command reaches the cluster: through the first of its targets that answers, and from there to any member."""

import contextlib
import difflib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fdn.cli.options import DEFAULT_TARGET, Invocation
from fdn.errors import ConfigError, DeadlineExceeded, Error, NotFound, Unreachable, VersionMismatch

if TYPE_CHECKING:
    from fdn.sync import Client

__all__ = ("ask", "connected", "find_member", "member_client", "members_of", "node_client")


@contextlib.contextmanager
def connected(invocation: Invocation, *, reconnect: bool = False) -> Iterator["Client"]:
    """A client of the first target that answers; `--timeout` bounds all attempts together.

    Args:
        invocation: What the options say.
        reconnect: Go on with another member when that one is lost: for what runs until Ctrl-C.

    Raises:
        Unreachable: None does. Names every target, and why.
        ConfigError: Those that do belong to another cluster.
    """
    from fdn.sync import Client

    settings = invocation.load().settings
    targets = settings.join or (DEFAULT_TARGET,)
    give_up_at = time.monotonic() + invocation.timeout_s
    failures: list[Error] = []
    for index, target in enumerate(targets):
        # One that is silent must leave time for those behind it.
        share_s = (give_up_at - time.monotonic()) / (len(targets) - index)
        client = Client(target, cluster=settings.cluster, timeout=max(share_s, 0.01), reconnect=reconnect)
        try:
            client.connect()
        except (Unreachable, DeadlineExceeded, ConfigError, VersionMismatch) as error:
            failures.append(error)
            continue
        client.timeout = invocation.timeout_s
        with client:
            yield client
        return
    raise _none_answers(targets, failures)


def ask(client: "Client", target: str, payload: Any = None) -> Any:
    """Ask the node itself, which answers even while its user's code is stuck."""
    return client.call(target, payload, channel="coordination")


def members_of(client: "Client") -> list[dict[str, Any]]:
    """The view of the node, by name."""
    rows: list[dict[str, Any]] = ask(client, "fdn.node.members")
    return sorted(rows, key=lambda row: (row["name"], row["node"]))


def find_member(members: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The member of this node id or name, the living before the dead.

    Raises:
        NotFound: There is none.
    """
    matches = [member for member in members if name in (member["node"], member["name"])]
    if not matches:
        names = [member["name"] for member in members]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(names)}"
        raise NotFound(f'no member is named "{name}"', hint=hint, member=name)
    return min(matches, key=lambda member: member["status"] not in ("alive", "suspect"))


def member_client(client: "Client", member: dict[str, Any]) -> "Client":
    """A client of another member, to be used as a context manager; `client` is of one that knows it."""
    from fdn.sync import Client

    endpoint = member["endpoints"].get("coordination", "")
    if not endpoint:
        raise Unreachable(f"node {member['name']} has told no address", hint="try again in a second")
    return Client(endpoint, cluster=client.cluster, timeout=client.timeout, reconnect=False)


@contextlib.contextmanager
def node_client(invocation: Invocation, name: str | None) -> Iterator["Client"]:
    """A client of the member of this name or id; None takes the node that answers.

    Raises:
        NotFound: There is no such member.
        Unreachable: Nobody answers, or that member does not.
    """
    with connected(invocation) as client:
        if name is None:
            yield client
            return
        with member_client(client, find_member(members_of(client), name)) as other:
            yield other


def _none_answers(targets: Sequence[str], failures: Sequence[Error]) -> Error:
    if len(failures) == 1:
        error = failures[0]
        if isinstance(error, Unreachable):
            error.hint = "start a cluster (fdn up), or name a node that runs: --join HOST:PORT"
        return error
    kinds = {type(error) for error in failures}
    kind = kinds.pop() if len(kinds) == 1 else Unreachable
    reasons = "; ".join(error.message for error in failures)  # each names its target
    return kind(
        f"{len(targets)} nodes were tried: {reasons}",
        hint="start a cluster (fdn up), or name a node that runs: --join HOST:PORT",
        targets=", ".join(targets),
    )

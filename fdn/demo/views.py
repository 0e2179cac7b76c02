"""What each node believes of the others, asked over and over of the node itself.

A node answers on its control plane, so that it answers while it is busy. Each is asked from a thread of its own: what
one of them sees must not wait for another's answer.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fdn.client import Client
from fdn.errors import DeadlineExceeded, Error

__all__ = ("POLL_S", "Row", "Rows", "ask", "changes", "is_whole", "until_seen")

POLL_S: Final = 0.02
_ANSWER_S: Final = 1.0

Row = Mapping[str, Any]  # one member, as `fdn.node.members` gives it
Rows = Sequence[Row]


def ask(endpoint: str, cluster: str) -> Rows:
    """One node's view of all members.

    Raises:
        Error: It did not answer.
    """
    with Client(endpoint, cluster=cluster, timeout_s=_ANSWER_S) as client:
        rows: Rows = client.call("fdn.node.members", channel="coordination")
        return rows


def is_whole(rows: Rows, nodes: Sequence[str]) -> bool:
    """Whether a view holds exactly these nodes as alive, and has an open way to each."""
    return {row["node"] for row in rows if row["status"] == "alive" and row["reachable"]} == set(nodes)


def changes(before: Rows, after: Rows) -> list[str]:
    """What has changed between two answers of one node, a line for each member."""
    former = {row["node"]: row for row in before}
    lines = []
    for row in after:
        old = former.get(row["node"])
        if old is None:
            was, came_back = "", False
        else:
            was, came_back = old["status"], old["incarnation"][0] != row["incarnation"][0]
        if row["status"] == was and not came_back:
            continue
        reason = f" ({row['reason']})" if row["reason"] and row["status"] != "alive" else ""
        since = f", was {was}" if was else ", new"
        lines.append(f"{row['name']} is {row['status']}{reason}{since}")
    return lines


async def until_seen(
    endpoints: Mapping[str, str], cluster: str, holds: Callable[[Rows], bool], what: str, timeout_s: float
) -> dict[str, float]:
    """Ask every node until its own view satisfies `holds`.

    Args:
        endpoints: Name to base address.
        cluster: The cluster's name.
        holds: Looks at one view; called from other threads.
        what: What is waited for, for the error.
        timeout_s: For all of them.

    Returns:
        For each name when its view first did, in `time.monotonic` seconds; exact to `POLL_S`.

    Raises:
        DeadlineExceeded: Some views never did; names them.
    """
    stop = threading.Event()
    deadline_at = time.monotonic() + timeout_s
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(max(1, len(endpoints)), "fdn-view") as threads:
        polls = {
            name: loop.run_in_executor(threads, _poll, endpoint, cluster, holds, deadline_at, stop)
            for name, endpoint in endpoints.items()
        }
        try:
            seen = dict(zip(polls, await asyncio.gather(*polls.values()), strict=True))
        finally:
            stop.set()  # a thread looks at it at least every `_ANSWER_S`
    missing = {name: last for name, (at, last) in seen.items() if not at}
    if missing:
        shown = "; ".join(f"{name}: {last}" for name, last in missing.items())
        raise DeadlineExceeded(f"not {what} within {timeout_s:g} s. {shown}", hint="the nodes' logs say more")
    return {name: at for name, (at, _) in seen.items()}


def _poll(
    endpoint: str, cluster: str, holds: Callable[[Rows], bool], deadline_at: float, stop: threading.Event
) -> tuple[float, str]:
    last = "never asked"
    while time.monotonic() < deadline_at and not stop.is_set():
        try:
            with Client(endpoint, cluster=cluster, timeout_s=_ANSWER_S) as client:
                while time.monotonic() < deadline_at and not stop.is_set():
                    rows = client.call("fdn.node.members", channel="coordination")
                    if holds(rows):
                        return time.monotonic(), ""
                    last = ", ".join(f"{row['name']} {row['status']}" for row in rows)
                    stop.wait(POLL_S)
        except Error as error:
            last = error.message
            stop.wait(POLL_S)
    return 0.0, last

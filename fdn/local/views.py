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

from fdn.errors import DeadlineExceeded, Error
from fdn.sync import Client

__all__ = ("POLL_S", "Eye", "Row", "Rows", "changes", "is_whole", "until_seen")

POLL_S: Final = 0.02
_ANSWER_S: Final = 1.0

Row = Mapping[str, Any]  # one member, as `fdn.node.members` gives it
Rows = Sequence[Row]


class Eye:
    """One node's view of all members, asked for over one connection. For one thread at a time."""

    def __init__(self, endpoint: str, cluster: str) -> None:
        self._client = Client(endpoint, cluster=cluster, timeout=_ANSWER_S, reconnect=False)

    def look(self) -> Rows:
        """What the node believes now.

        Raises:
            Error: It did not answer. The next look dials anew.
        """
        try:
            rows: Rows = self._client.call("fdn.node.members", channel="coordination")
        except Error:
            self._client.close()
            raise
        return rows

    def close(self) -> None:
        self._client.close()


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
            lines.append(f"{row['name']} is {row['status']}, new here")
        elif (row["status"], row["incarnation"][0]) != (old["status"], old["incarnation"][0]):
            reason = f" ({row['reason']})" if row["reason"] and row["status"] != "alive" else ""
            lines.append(f"{row['name']} is {row['status']}{reason}, was {old['status']}")
        elif row["state"] != old["state"]:
            lines.append(f"{row['name']} is {row['state']}, was {old['state']}")
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
    threads = concurrent.futures.ThreadPoolExecutor(max(1, len(endpoints)), "fdn-view")
    polls = {
        name: loop.run_in_executor(threads, _poll, endpoint, cluster, holds, deadline_at, stop)
        for name, endpoint in endpoints.items()
    }
    try:
        seen = dict(zip(polls, await asyncio.gather(*polls.values()), strict=True))
    finally:
        stop.set()
        threads.shutdown(wait=False)  # each sees `stop` within `_ANSWER_S`; the loop has other things to do
    missing = {name: last for name, (at, last) in seen.items() if not at}
    if missing:
        shown = "; ".join(f"{name}: {last}" for name, last in missing.items())
        raise DeadlineExceeded(f"not {what} within {timeout_s:g} s. {shown}", hint="the nodes' logs say more")
    return {name: at for name, (at, _) in seen.items()}


def _poll(
    endpoint: str, cluster: str, holds: Callable[[Rows], bool], deadline_at: float, stop: threading.Event
) -> tuple[float, str]:
    last = "never asked"
    eye = Eye(endpoint, cluster)
    try:
        while time.monotonic() < deadline_at and not stop.is_set():
            try:
                rows = eye.look()
                if holds(rows):
                    return time.monotonic(), ""
                last = ", ".join(f"{row['name']} {row['status']}" for row in rows)
            except Error as error:
                last = error.message
            stop.wait(POLL_S)
    finally:
        eye.close()
    return 0.0, last

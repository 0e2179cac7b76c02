"""A cluster that exists only for commands: what each node would answer, by endpoint."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fdn.errors import Error, NotFound, Unreachable

__all__ = ("FakeCluster", "member")


def member(name: str, port: int, **changes: Any) -> dict[str, Any]:
    """One row of `fdn.node.members`."""
    row = {
        "node": f"{name}-0123456789abcdef",
        "name": name,
        "status": "alive",
        "incarnation": [1, 0],
        "endpoints": {"coordination": f"tcp://127.0.0.1:{port}"},
        "tags": {},
        "state": "serving",
        "lag_ms": 0,
        "reachable": True,
        "reason": "",
        "rtt_us": 250.0,
        "me": False,
    }
    return row | changes


class FakeCluster:
    """Nodes that answer, and a record of what they were asked."""

    def __init__(self) -> None:
        self.members: list[dict[str, Any]] = []
        self.refusals: dict[str, Error] = {}
        self.answers: dict[str, Callable[[dict[str, Any], Any], Any]] = {
            "fdn.node.ping": lambda me, payload: None,
            "fdn.node.members": lambda me, payload: [row | {"me": row["node"] == me["node"]} for row in self.members],
            "fdn.node.info": lambda me, payload: {"node": me["node"], "name": me["name"], "cluster": "fdn"},
            "fdn.node.stats": lambda me, payload: {"unsent": 0},
        }
        self.asked: list[tuple[str, str, Any]] = []
        self.dialled: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str] | None] = []

    def add(self, name: str, port: int, **changes: Any) -> dict[str, Any]:
        row = member(name, port, **changes)
        self.members.append(row)
        return row

    def at(self, endpoint: str) -> dict[str, Any]:
        for row in self.members:
            if row["endpoints"]["coordination"] == endpoint and row["status"] in ("alive", "suspect"):
                return row
        raise Unreachable(f"no node answers at {endpoint}")

    def client(
        self, endpoint: str, *, cluster: str = "fdn", timeout: float = 5.0, reconnect: bool = True
    ) -> "FakeClient":
        """In the place of the class `fdn.sync.Client`."""
        self.dialled.append((endpoint, cluster))
        return FakeClient(self, endpoint, cluster, timeout)


class FakeClient:
    def __init__(self, world: FakeCluster, endpoint: str, cluster: str, timeout: float) -> None:
        self._world = world
        self.endpoint = endpoint
        self.cluster = cluster
        self.timeout = timeout
        self.node: dict[str, Any] = {}

    def __enter__(self) -> "FakeClient":
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def connect(self) -> None:
        if self.endpoint in self._world.refusals:
            raise self._world.refusals[self.endpoint]
        row = self._world.at(self.endpoint)
        self.node = {"node": row["node"], "name": row["name"]}

    def call(self, target: str, payload: Any = None, *, timeout: float | None = None, channel: str = "data") -> Any:
        me = self._world.at(self.endpoint)
        self._world.asked.append((me["name"], target, payload))
        assert (channel == "coordination") == target.startswith("fdn.") or target == "fdn.node.ping"
        if target not in self._world.answers:
            raise NotFound(f"no node offers {target!r}")
        return self._world.answers[target](me, payload)

    @contextlib.contextmanager
    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[Iterator[Any]]:
        """What a node answers is one item; what is an iterator here is a streamed reply."""
        self._world.headers.append(headers)
        result = self.call(target, payload if items is None else list(items), timeout=timeout)
        yield result if isinstance(result, Iterator) else iter([result])

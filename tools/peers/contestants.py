"""Who is measured side by side, each behind the same three functions: one way, there and back, many at once.

Each is used in the way that its own makers recommend for speed, and what a figure includes is said beside it: what the
sender waits for, and what the receiver is handed.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.bench import erlang as erlang_nodes
from fdn.bench.figures import latency
from fdn.bench.large import node_pair
from fdn.bench.plan import ANSWER_S, Pair, endpoints, pairs
from fdn.bench.worker import Worker
from tools.peers import servers

__all__ = ("PEERS", "Contestant", "Work", "everyone")

PEERS: Final = ("pyzmq", "erlang", "zenoh", "nats", "redis")
_FOR_EVER_S: Final = 3600.0  # what is counted ends by its count

Work = Callable[[int, int], dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """One way of using one library.

    Attributes:
        library: Whose it is, of `PEERS` or `fdn`.
        awaits: What the sender waits for with each message.
        reads: What the receiver is handed.
        cast: Sends so many messages of that size; `sent`, `received`, `elapsed_s`.
        latency: Makes so many round trips one after the other; `p50_us`, `p99_us`.
        calls: The same with 256 under way; `calls`, `elapsed_s`.
        large: As `cast`, for large messages.
        version: Of the library, where it says so itself.
    """

    library: str
    awaits: str
    reads: str
    cast: Work | None = None
    latency: Work | None = None
    calls: Work | None = None
    large: Work | None = None
    version: str = ""


@contextlib.contextmanager
def everyone(peers: Sequence[str], python: Path | None, in_flight: int) -> Iterator[dict[str, Contestant]]:
    """Fdn and these peers, by the names under which they are reported; their processes are ended with the block."""
    with contextlib.ExitStack() as stack:
        nodes, raw = stack.enter_context(pairs("tcp"))
        large = stack.enter_context(node_pair(stack.enter_context(endpoints("tcp"))))
        found = _fdn(nodes, large, in_flight)
        found["fdn spin"] = _spin(stack.enter_context(_spinning()))
        if "pyzmq" in peers:
            found["pyzmq"] = _pyzmq(raw, in_flight)
        if "erlang" in peers:
            receiver, sender = stack.enter_context(erlang_nodes.pair())
            erlang = dataclasses.replace(_ERLANG, version=receiver.ready["otp"])
            found["erlang"] = _pair(erlang, Pair(receiver, sender), in_flight)
        if python is not None:
            if "zenoh" in peers:
                found["zenoh"] = _pair(_ZENOH, stack.enter_context(_zenoh(python)), in_flight)
            if "nats" in peers:
                url = stack.enter_context(servers.nats(python.with_name("nats-server")))
                found["nats"] = _pair(_NATS, stack.enter_context(_workers(python, "nats", server=url)), in_flight)
            if "redis" in peers:
                port = stack.enter_context(servers.redis())
                found["redis"] = _pair(_REDIS, stack.enter_context(_workers(python, "redis", port=port)), in_flight)
        yield found


def _fdn(nodes: Pair, large: Pair, in_flight: int) -> dict[str, Contestant]:
    def work(handler: str) -> Mapping[str, Any]:
        def ask(order: str, **more: Any) -> Work:
            def do(size: int, count: int) -> dict[str, Any]:
                amount = {"size": size, "count": count, "seconds": _FOR_EVER_S}
                return nodes.sender.ask(order, ANSWER_S, handler=handler, **amount, **more)

            return do

        return {"cast": ask("cast"), "latency": ask("latency"), "calls": ask("calls", in_flight=in_flight)}

    def bulk(order: str) -> Work:
        def do(size: int, count: int) -> dict[str, Any]:
            return large.sender.ask(order, ANSWER_S, size=size, count=count, seconds=_FOR_EVER_S)

        return do

    singly = "each `await node.cast(...)` or `call(...)` singly"
    return {
        "fdn def": Contestant("fdn", singly, "bytes, in a `def` handler", large=bulk("cast"), **work("def")),
        "fdn async": Contestant("fdn", singly, "a Struct, in an `async def` handler", **work("async")),
        "fdn call": Contestant("fdn", "four `await node.call(...)` under way", "bytes; answers", large=bulk("call")),
    }


@contextlib.contextmanager
def _spinning() -> Iterator[Pair]:
    listen, spin = "tcp://127.0.0.1:0", "spin"
    with (
        Worker("node-receiver", endpoint=listen, latency=spin) as receiver,
        Worker("node-sender", endpoint=listen, latency=spin, join=receiver.ready["endpoint"]) as sender,
    ):
        yield Pair(receiver, sender)


def _spin(nodes: Pair) -> Contestant:
    def one_by_one(size: int, count: int) -> dict[str, Any]:
        amount = {"size": size, "count": count, "seconds": _FOR_EVER_S}
        return nodes.sender.ask("latency", ANSWER_S, handler="def", **amount)

    awaits = 'each `await node.call(...)` singly, both ends with data.latency = "spin"'
    return Contestant("fdn", awaits, "bytes, in a `def` handler", latency=one_by_one)


def _pyzmq(raw: Pair, in_flight: int) -> Contestant:
    def cast(size: int, count: int, receive: str = "count", send: str = "cast") -> dict[str, Any]:
        raw.receiver.tell(receive)
        sent = raw.sender.ask(send, ANSWER_S, size=size, count=count, seconds=_FOR_EVER_S)
        counted = raw.receiver.answer(ANSWER_S)
        return {**counted, "sent": sent["sent"], "elapsed_s": counted["ended_at"] - sent["started_at"]}

    def echoed(order: str, **more: Any) -> Work:
        def do(size: int, count: int) -> dict[str, Any]:
            raw.receiver.tell("echo")
            result = raw.sender.ask(order, ANSWER_S, size=size, count=count, seconds=_FOR_EVER_S, **more)
            raw.receiver.answer(ANSWER_S)
            return result

        return do

    return Contestant(
        "pyzmq",
        "blocking `send`; large ones with copy=False",
        "bytes from a blocking `recv`; large ones not looked at",
        cast=cast,
        latency=echoed("latency"),
        calls=echoed("calls", in_flight=in_flight),
        large=lambda size, count: cast(size, count, "bulk-count", "bulk"),
    )


_ERLANG: Final = Contestant("erlang", "`Pid ! Binary`, held up while the connection is busy", "a binary, in a process")
_ZENOH: Final = Contestant("zenoh", "`put`, held up when the network is (BLOCK)", "a sample, its payload not looked at")
_NATS: Final = Contestant("nats", "`await publish(...)` or `request(...)` singly", "bytes, in an `async def` callback")
_REDIS: Final = Contestant("redis", "pipelines of 100 `PUBLISH`", "bytes, from `listen()` in a thread")
_CALLS: Final = frozenset({"erlang", "nats"})  # the others have no calls, or none that many can be under way of
_LARGE: Final = frozenset({"erlang", "zenoh"})


def _pair(who: Contestant, pair: Pair, in_flight: int) -> Contestant:
    """A receiver that counts from its start, and a sender: see `tools.peers.lines`."""
    so_far = 0

    def cast(size: int, count: int) -> dict[str, Any]:
        nonlocal so_far
        sent = pair.sender.ask("cast", ANSWER_S, size=size, count=count)
        counted = pair.receiver.ask("tally", ANSWER_S, expected=so_far + count)
        received, so_far = counted["received"] - so_far, counted["received"]
        return {"sent": sent["sent"], "received": received, "elapsed_s": counted["ended_at"] - sent["started_at"]}

    def one_by_one(size: int, count: int) -> dict[str, Any]:
        return latency(pair.sender.ask("latency", ANSWER_S, size=size, count=count)["durations_s"])

    def calls(size: int, count: int) -> dict[str, Any]:
        return pair.sender.ask("calls", ANSWER_S, size=size, count=max(count, in_flight), in_flight=in_flight)

    return dataclasses.replace(
        who,
        cast=cast,
        latency=one_by_one,
        calls=calls if who.library in _CALLS else None,
        large=cast if who.library in _LARGE else None,
    )


@contextlib.contextmanager
def _workers(python: Path, name: str, **arguments: Any) -> Iterator[Pair]:
    program = (str(python), "-m", f"tools.peers.{name}_pair")
    with Worker("receiver", program, **arguments) as receiver, Worker("sender", program, **arguments) as sender:
        yield Pair(receiver, sender)


@contextlib.contextmanager
def _zenoh(python: Path) -> Iterator[Pair]:
    program = (str(python), "-m", "tools.peers.zenoh_pair")
    with Worker("receiver", program) as receiver, Worker("sender", program, **receiver.ready) as sender:
        yield Pair(receiver, sender)

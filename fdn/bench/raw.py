"""Bare pyzmq between two processes: what fdn's figures are laid beside.

As fast as pyzmq goes without tricks: blocking sockets, one message a send, copies for small messages. PUSH to PULL one
way; for round trips two DEALERs, which carry no address frames: if anything kinder to pyzmq than REQ and REP.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import zmq

from fdn.bench.figures import latency
from fdn.bench.worker import orders, until

__all__ = ("receiver", "sender")

_END = b""  # no measured message is empty
_LINGER_MS = 0


def receiver(endpoint: str) -> None:
    """Bind two sockets at `endpoint` (`ipc://PATH` or `tcp://HOST:0`), and count or echo as ordered."""
    context = zmq.Context()
    pull, dealer = context.socket(zmq.PULL), context.socket(zmq.DEALER)
    for name, socket in (("pull", pull), ("dealer", dealer)):
        socket.linger = _LINGER_MS
        socket.bind(f"{endpoint}.{name}" if endpoint.startswith("ipc") else endpoint)

    def count() -> dict[str, Any]:
        receive, received = pull.recv, 0
        while receive():
            received += 1
        return {"received": received, "ended_at": time.monotonic()}

    def echo() -> dict[str, Any]:
        receive, send = dealer.recv, dealer.send
        while message := receive():
            send(message)
        return {}

    ready = {"pull": pull.getsockopt_string(zmq.LAST_ENDPOINT), "dealer": dealer.getsockopt_string(zmq.LAST_ENDPOINT)}
    orders(ready, lambda order: count() if order["order"] == "count" else echo())
    context.destroy(_LINGER_MS)


def sender(pull: str, dealer: str) -> None:
    """Send what is ordered to those endpoints."""
    context = zmq.Context()
    push, peer = context.socket(zmq.PUSH), context.socket(zmq.DEALER)
    push.linger = peer.linger = _LINGER_MS
    push.connect(pull)
    peer.connect(dealer)

    def cast(size: int, seconds: float, count: int | None) -> dict[str, Any]:
        payload, send, number = bytes(size), push.send, -1
        started_at = time.monotonic()
        for number in until(count or sys.maxsize, seconds, 256):  # noqa: B007 - read after the loop
            send(payload)
        send(_END)
        return {"sent": number + 1, "started_at": started_at}

    def one_at_a_time(size: int, seconds: float, count: int | None) -> dict[str, Any]:
        payload, send, receive, clock = bytes(size), peer.send, peer.recv, time.perf_counter
        durations_s: list[float] = []
        for _ in until(count or sys.maxsize, seconds, 16):
            started = clock()
            send(payload)
            receive()
            durations_s.append(clock() - started)
        send(_END)
        return latency(durations_s)

    def many(size: int, seconds: float, count: int | None, in_flight: int) -> dict[str, Any]:
        payload, send, receive = bytes(size), peer.send, peer.recv
        started = time.perf_counter()
        waiting = done = 0
        for _ in until(count or sys.maxsize, seconds, 256):
            send(payload)
            if waiting < in_flight:
                waiting += 1
            else:
                receive()
                done += 1
        for _ in range(waiting):
            receive()
        elapsed_s = time.perf_counter() - started
        send(_END)
        return {"calls": done + waiting, "elapsed_s": elapsed_s}

    work: dict[str, Callable[..., dict[str, Any]]] = {"cast": cast, "latency": one_at_a_time, "calls": many}

    def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        return work[order.pop("order")](**order)

    orders({}, carry_out)
    context.destroy(_LINGER_MS)

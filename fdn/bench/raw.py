"""Bare pyzmq between two processes: what fdn's figures are laid beside.

As fast as pyzmq goes without tricks: blocking sockets, one message a send, copies for small messages. PUSH to PULL one
way; for round trips two DEALERs, which carry no address frames: if anything kinder to pyzmq than REQ and REP. Large
messages go without a copy at either end, from one buffer that is never changed, and are not looked at.
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
_FRESH_BUFFERS = 4
_BULK_HWM = 16  # of large messages: a thousand, which is the default, may be more than a machine has memory


def receiver(endpoint: str) -> None:
    """Bind three sockets at `endpoint` (`ipc://PATH` or `tcp://HOST:0`), and count or echo as ordered."""
    context = zmq.Context()
    pull, dealer, large = context.socket(zmq.PULL), context.socket(zmq.DEALER), context.socket(zmq.PULL)
    large.rcvhwm = _BULK_HWM
    sockets = {"pull": pull, "dealer": dealer, "bulk": large}
    for name, socket in sockets.items():
        socket.linger = _LINGER_MS
        socket.bind(f"{endpoint}.{name}" if endpoint.startswith("ipc") else endpoint)

    def count() -> dict[str, Any]:
        receive, received = pull.recv, 0
        while receive():
            received += 1
        return {"received": received, "ended_at": time.monotonic()}

    def count_bulk() -> dict[str, Any]:
        received = bytes_ = 0
        while size := len(large.recv(copy=False)):
            received += 1
            bytes_ += size
        return {"received": received, "bytes": bytes_, "ended_at": time.monotonic()}

    def read_bulk() -> dict[str, Any]:
        from fdn.bench.shared_nodes import read  # which needs numpy

        received = total = 0
        while len(frame := large.recv(copy=False)):
            total += read(frame.buffer)
            received += 1
        return {"received": received, "ended_at": time.monotonic()}

    def echo() -> dict[str, Any]:
        receive, send = dealer.recv, dealer.send
        while message := receive():
            send(message)
        return {}

    ready = {name: socket.getsockopt_string(zmq.LAST_ENDPOINT) for name, socket in sockets.items()}
    work = {"count": count, "echo": echo, "bulk-count": count_bulk, "bulk-read": read_bulk}
    orders(ready, lambda order: work[order["order"]]())
    context.destroy(_LINGER_MS)


def sender(pull: str, dealer: str, bulk: str) -> None:
    """Send what is ordered to those endpoints."""
    context = zmq.Context()
    push, peer, large = context.socket(zmq.PUSH), context.socket(zmq.DEALER), context.socket(zmq.PUSH)
    push.linger = peer.linger = large.linger = _LINGER_MS
    large.sndhwm = _BULK_HWM
    push.connect(pull)
    peer.connect(dealer)
    large.connect(bulk)

    def cast(size: int, seconds: float, count: int | None) -> dict[str, Any]:
        payload, send, number = bytes(size), push.send, -1
        started_at = time.monotonic()
        for number in until(count or sys.maxsize, seconds, 256):  # noqa: B007 - read after the loop
            send(payload)
        send(_END)
        return {"sent": number + 1, "started_at": started_at}

    def send_bulk(size: int, seconds: float, count: int | None) -> dict[str, Any]:
        payload, number = bytes(size), -1
        started_at = time.monotonic()
        for number in until(count or sys.maxsize, seconds, 1):  # noqa: B007 - read after the loop
            large.send(payload, copy=False)
        large.send(_END)
        return {"sent": number + 1, "started_at": started_at}

    def fill_and_send(size: int, count: int) -> dict[str, Any]:
        from fdn.bench.shared_nodes import fill

        # As many pieces of memory as may be under way at once; each is filled anew when it has left.
        buffers = [bytearray(size) for _ in range(_FRESH_BUFFERS)]
        trackers: list[Any] = [None] * _FRESH_BUFFERS
        started_at = time.monotonic()
        for number in range(count):
            tracker = trackers[number % _FRESH_BUFFERS]
            if tracker is not None:
                tracker.wait()
            fill(buffers[number % _FRESH_BUFFERS], number)
            trackers[number % _FRESH_BUFFERS] = large.send(buffers[number % _FRESH_BUFFERS], copy=False, track=True)
        large.send(_END)
        return {"sent": count, "started_at": started_at}

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

    work: dict[str, Callable[..., dict[str, Any]]] = {
        "cast": cast,
        "bulk": send_bulk,
        "bulk-fresh": fill_and_send,
        "latency": one_at_a_time,
        "calls": many,
    }

    def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        return work[order.pop("order")](**order)

    orders({}, carry_out)
    context.destroy(_LINGER_MS)

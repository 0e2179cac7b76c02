"""A session of Zenoh that sends, or receives: two peers over TCP, no router, no scouting, as its own examples have it.

One way: `put` on a declared publisher that is held up when the network is (CongestionControl.BLOCK), a callback that
counts and does not look at the payload. There and back: a message one way and one back on another key, as its z_ping.
"""

import importlib
import socket
import time
from typing import Any

from tools.peers.lines import Answer, Count, arguments, serve

__all__ = ("main",)

_TAKE, _ECHO, _BACK = "bench/take", "bench/echo", "bench/back"


def _receive(zenoh: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp/127.0.0.1:{free.getsockname()[1]}"
    count = Count()
    with zenoh.open(_config(zenoh, listen=endpoint)) as session:
        back = _publisher(zenoh, session, _BACK)

        def take(sample: Any) -> None:
            count.messages += 1
            count.bytes += len(sample.payload)

        subscriptions = [
            session.declare_subscriber(_TAKE, take),
            session.declare_subscriber(_ECHO, lambda sample: back.put(sample.payload)),
        ]
        serve({"endpoint": endpoint}, {"tally": count.wait})
        for subscription in subscriptions:
            subscription.undeclare()


def _send(zenoh: Any, endpoint: str) -> None:
    with zenoh.open(_config(zenoh, connect=endpoint)) as session:
        takes, echoes = _publisher(zenoh, session, _TAKE), _publisher(zenoh, session, _ECHO)
        back = session.declare_subscriber(_BACK)

        def cast(size: int, count: int) -> Answer:
            data, put = bytes(size), takes.put
            started_at = time.monotonic()
            for _ in range(count):
                put(data)
            return {"sent": count, "started_at": started_at}

        def latency(size: int, count: int) -> Answer:
            data, put, receive, clock = bytes(size), echoes.put, back.recv, time.perf_counter
            durations_s = []
            for _ in range(count):
                started = clock()
                put(data)
                receive()
                durations_s.append(clock() - started)
            return {"durations_s": durations_s}

        for publisher in (takes, echoes):
            while not publisher.matching_status.matching:
                time.sleep(0.001)
        serve({}, {"cast": cast, "latency": latency})


def _publisher(zenoh: Any, session: Any, key: str) -> Any:
    return session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)


def _config(zenoh: Any, listen: str = "", connect: str = "") -> Any:
    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", f'["{listen}"]' if listen else "[]")
    config.insert_json5("connect/endpoints", f'["{connect}"]' if connect else "[]")
    return config


def main() -> None:
    """Role and arguments are on the command line."""
    role, given = arguments()
    (_receive if role == "receiver" else _send)(importlib.import_module("zenoh"), **given)


if __name__ == "__main__":
    main()

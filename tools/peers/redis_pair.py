"""A client of Redis that sends, or receives, by its publish and subscribe: redis-py with its parser in C (hiredis).

One way: pipelines of a hundred `PUBLISH`, which is the fast way; one at a time would wait for the server each time.
There and back: a message one way, and one back on another channel. Both ends block; there is no event loop.
"""

import importlib
import threading
import time
from typing import Any

from tools.peers.lines import Answer, Count, arguments, serve

__all__ = ("main",)

_TAKE, _ECHO, _BACK = "bench.take", "bench.echo", "bench.back"
_PIPELINE = 100


def _receive(connect: Any) -> None:
    count = Count()
    answering = connect()
    subscription = connect().pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(_TAKE, _ECHO)

    def listen() -> None:
        for message in subscription.listen():
            if message["channel"] == b"bench.take":
                count.messages += 1
                count.bytes += len(message["data"])
            else:
                answering.publish(_BACK, message["data"])

    _wait_subscribed(connect(), _ECHO)
    threading.Thread(target=listen, daemon=True).start()
    serve({}, {"tally": count.wait})


def _send(connect: Any) -> None:
    client = connect()
    subscription = connect().pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(_BACK)
    _wait_subscribed(client, _BACK)
    back = subscription.listen()

    def cast(size: int, count: int) -> Answer:
        data = bytes(size)
        started_at = time.monotonic()
        for first in range(0, count, _PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for _ in range(min(_PIPELINE, count - first)):
                pipeline.publish(_TAKE, data)
            pipeline.execute()
        return {"sent": count, "started_at": started_at}

    def latency(size: int, count: int) -> Answer:
        data, clock = bytes(size), time.perf_counter
        durations_s = []
        for _ in range(count):
            started = clock()
            client.publish(_ECHO, data)
            next(back)
            durations_s.append(clock() - started)
        return {"durations_s": durations_s}

    serve({}, {"cast": cast, "latency": latency})


def _wait_subscribed(client: Any, channel: str) -> None:
    """A subscription is made when the server knows of it."""
    while not client.pubsub_numsub(channel)[0][1]:
        time.sleep(0.001)


def main() -> None:
    """Role and arguments are on the command line."""
    role, given = arguments()
    redis = importlib.import_module("redis")
    (_receive if role == "receiver" else _send)(lambda: redis.Redis(host="127.0.0.1", port=given["port"]))


if __name__ == "__main__":
    main()

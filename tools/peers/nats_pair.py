"""A client of NATS that sends, or receives: nats-py as its own examples use it, with its defaults.

One way: `await client.publish(...)` each, an `async def` callback that counts. There and back: `await
client.request(...)`.
"""

import asyncio
import importlib
import time
from typing import Any

from tools.peers.lines import Answer, Count, arguments, serve_on_loop

__all__ = ("main",)

_TAKE, _ECHO = "bench.take", "bench.echo"
_TIMEOUT_S = 30.0


async def _receive(client: Any) -> None:
    count = Count()

    async def take(message: Any) -> None:
        count.messages += 1
        count.bytes += len(message.data)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe(_TAKE, cb=take)
    await client.subscribe(_ECHO, cb=echo)
    await client.flush()  # the server knows of them
    await serve_on_loop({}, {"tally": count.wait_on_loop})


async def _send(client: Any) -> None:
    async def cast(size: int, count: int) -> Answer:
        data, publish = bytes(size), client.publish
        started_at = time.monotonic()
        for _ in range(count):
            await publish(_TAKE, data)
        await client.flush()
        return {"sent": count, "started_at": started_at}

    async def latency(size: int, count: int) -> Answer:
        data, request, clock = bytes(size), client.request, time.perf_counter
        durations_s = []
        for _ in range(count):
            started = clock()
            await request(_ECHO, data, timeout=_TIMEOUT_S)
            durations_s.append(clock() - started)
        return {"durations_s": durations_s}

    async def calls(size: int, count: int, in_flight: int) -> Answer:
        data, numbers = bytes(size), iter(range(count))

        async def keep_calling() -> None:
            for _ in numbers:
                await client.request(_ECHO, data, timeout=_TIMEOUT_S)

        started = time.perf_counter()
        await asyncio.gather(*(keep_calling() for _ in range(in_flight)))
        return {"calls": count, "elapsed_s": time.perf_counter() - started}

    await serve_on_loop({}, {"cast": cast, "latency": latency, "calls": calls})


async def _work(role: str, server: str) -> None:
    client = await importlib.import_module("nats").connect(server)
    await (_receive if role == "receiver" else _send)(client)
    await client.close()


def main() -> None:
    """Role and arguments are on the command line."""
    role, given = arguments()
    asyncio.run(_work(role, **given))


if __name__ == "__main__":
    main()

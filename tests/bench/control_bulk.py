"""Do 64 MiB of control-plane bulk delay heartbeats? Two processes; reports, does not gate.

    python3 tests/bench/control_bulk.py

Round trips are asked for at fixed times (open loop, every 2 ms) on `gossip`, the channel that carries the bulk, and on
`coordination`: idle, beside 64 MiB in pieces, and beside the same in messages of 8 MiB that go whole, which is what
there would be without pieces. An incident is a round trip later than the idle 99th percentile and 10 ms.
"""

import asyncio
import json
from typing import Any

import msgspec

import fdn
from fdn.runtime.control_plane import ControlPlane
from fdn.testing import ProcessCluster
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind

MIB = 1024 * 1024
INTERVAL_S = 0.002
IDLE_S = 4.0
TIMEOUT_S = 5.0
CHANNELS = (Channel.COORDINATION, Channel.GOSSIP)


async def probe(control: ControlPlane, peer: str, channel: Channel, over: asyncio.Event, samples: list[float]) -> None:
    """Ask at fixed times until `over`; a late answer counts from when it should have been asked."""
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[None]] = set()
    due = loop.time()

    async def once(at: float) -> None:
        try:
            await control.ping(peer, channel, TIMEOUT_S)
        except fdn.Error:
            samples.append(TIMEOUT_S * 1e6)  # it was not even sent: 4 MiB wait already
        else:
            samples.append((loop.time() - at) * 1e6)

    while not over.is_set():
        await asyncio.sleep(max(0.0, due - loop.time()))
        task = loop.create_task(once(due))
        asked.add(task)
        task.add_done_callback(asked.discard)
        due += INTERVAL_S
    await asyncio.gather(*asked)


async def beside(control: ControlPlane, peer: str, work: Any) -> tuple[dict[str, list[float]], float]:
    """Round trips by channel while `work` runs, and the seconds that it took."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    samples: dict[str, list[float]] = {channel.value: [] for channel in CHANNELS}
    probes = [loop.create_task(probe(control, peer, channel, over, samples[channel.value])) for channel in CHANNELS]
    started = loop.time()
    await work()
    took_s = loop.time() - started
    over.set()
    await asyncio.gather(*probes)
    return samples, took_s


async def measure(control: ControlPlane, peer: str) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    body = bytes(64 * MIB)

    async def idle() -> None:
        await asyncio.sleep(IDLE_S)

    async def in_pieces() -> None:
        for _ in range(4):
            done = loop.create_future()
            control.bulk.send(peer, "fdn.bench", body, done.set_result)
            reason = await done
            assert not reason, reason

    async def whole() -> None:
        length = (8 * MIB).to_bytes(4, "big")
        large = Envelope(Kind.CORE, "fdn.bench", body=msgspec.Raw(b"\xc6" + length + bytes(8 * MIB)))
        for _ in range(32):
            control.links.send(peer, Channel.GOSSIP, large)
            left = loop.create_future()
            control.links.when_idle(peer, Channel.GOSSIP, lambda left=left: left.set_result(None))  # type: ignore[misc]
            await left

    report: dict[str, Any] = {}
    limits: dict[str, float] = {}
    for name, work in (("idle", idle), ("in_pieces", in_pieces), ("whole", whole)):
        samples, took_s = await beside(control, peer, work)
        report[name] = {"mib_s": round(256 / took_s) if name != "idle" else 0}
        for channel, values in samples.items():
            values.sort()
            p50, p99 = values[len(values) // 2], values[int(len(values) * 0.99)]
            limit = limits.setdefault(channel, p99 + 10_000)
            report[name][channel] = {
                "count": len(values),
                "p50_us": round(p50),
                "p99_us": round(p99),
                "max_us": round(values[-1]),
                "incidents": len([value for value in values if value > limit]),
            }
    return report


async def main() -> None:
    with ProcessCluster() as cluster:
        (other,) = cluster.start(1)
        async with fdn.Node(name="bench", cluster=cluster.name, join=[other.endpoint]) as node:
            report = await node._host.run(measure(node._control, other.id))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())

import asyncio
import logging
from typing import Any

import msgspec
import pytest

import fdn
from fdn.messaging.event_queue import Delivery, Policy
from fdn.messaging.subscriptions import Subscription, policy_of
from fdn.runtime.data_plane import NoTicket
from tests.unit.fdn.harness import virtual
from transports.wire.envelope import Envelope, Kind, MetaKey

NO_TICKET = NoTicket()


async def no_wait(subscription: Any) -> None:
    pass


class Order(msgspec.Struct):
    items: int


def subscription(policy: str = "wait", events_max: int = 100, payload: Any = Any) -> Subscription[Any]:
    return Subscription(
        "orders.>",
        queue="",
        policy=policy_of(policy),
        events_max=events_max,
        bytes_max=100_000,
        decoder=msgspec.msgpack.Decoder(payload),
        loop=asyncio.get_running_loop(),
        detach=lambda subscription: None,
        withdraw=no_wait,
    )


def deliver(to: Subscription[Any], payload: Any, meta: Any = None, deadline_at: float = 0.0) -> None:
    body = msgspec.Raw(msgspec.msgpack.encode(payload))
    to.deliver(Delivery(Envelope(Kind.EVENT, "orders.eu", meta=meta, body=body), "n1-id", deadline_at), NO_TICKET)


async def payloads(of: Subscription[Any], count: int) -> list[Any]:
    events = [await anext(of) for _ in range(count)]
    return [event if isinstance(event, fdn.Gap) else event.payload for event in events]


@virtual
async def test_events_as_they_were_published():
    ours = subscription()
    deliver(ours, {"a": [1]}, {MetaKey.TRACE: [b"t" * 16, b"s" * 8, 1]})
    deliver(ours, None)
    assert await anext(ours) == fdn.Event("orders.eu", {"a": [1]}, "n1-id", (b"t" * 16).hex())
    assert await anext(ours) == fdn.Event("orders.eu", None, "n1-id")


@virtual
async def test_typed():
    ours = subscription(payload=Order)
    deliver(ours, {"items": 3})
    assert (await payloads(ours, 1)) == [Order(3)]


@virtual
async def test_what_does_not_fit_is_counted_and_told_and_passed_over(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    ours = subscription(payload=Order)
    deliver(ours, {"items": "three"})
    deliver(ours, {"items": 3})
    assert (await payloads(ours, 1)) == [Order(3)]
    assert ours.failed == 1
    assert "1 event(s) could not be delivered, the last of orders.eu: payload does not fit" in caplog.text


@virtual
async def test_an_event_whose_deadline_has_passed_is_passed_over():
    ours = subscription()
    now = asyncio.get_running_loop().time()
    deliver(ours, "late", deadline_at=now + 1)
    deliver(ours, "in time", deadline_at=now + 10)
    await asyncio.sleep(2)
    assert (await payloads(ours, 1)) == ["in time"]
    assert ours.expired == 1


@virtual
async def test_a_gap_in_its_place():
    ours = subscription("drop_oldest", events_max=2)
    for number in range(5):
        deliver(ours, number)
    assert await payloads(ours, 3) == [fdn.Gap(3), 3, 4]
    assert ours.dropped == 3


@virtual
async def test_a_reader_that_waits_gets_the_next():
    ours = subscription()
    reader = asyncio.create_task(payloads(ours, 2))
    await asyncio.sleep(1)
    deliver(ours, 1)
    await asyncio.sleep(1)
    deliver(ours, 2)
    assert await reader == [1, 2]


@virtual
async def test_two_readers_share():
    ours = subscription()
    readers = [asyncio.create_task(payloads(ours, 1)) for _ in range(2)]
    await asyncio.sleep(1)
    deliver(ours, 1)
    deliver(ours, 2)
    assert sorted(await asyncio.gather(*readers)) == [[1], [2]]


@virtual
async def test_a_reader_that_is_cancelled_takes_nothing_with_it():
    ours = subscription()
    reader = asyncio.create_task(payloads(ours, 1))
    await asyncio.sleep(1)
    deliver(ours, 1)
    reader.cancel()
    assert await payloads(ours, 1) == [1]


@virtual
async def test_a_reader_with_plenty_to_read_lets_others_have_their_turn():
    ours, turns = subscription(events_max=10_000), 0
    for number in range(5000):
        deliver(ours, number)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count_turns())
    await payloads(ours, 5000)
    task.cancel()
    assert turns >= 10


@virtual
async def test_close_ends_whoever_reads_and_drops_the_rest():
    ours = subscription()
    reader = asyncio.create_task(payloads(ours, 1))
    await asyncio.sleep(1)
    await ours.close()
    with pytest.raises(StopAsyncIteration):
        await anext(ours)
    with pytest.raises(StopAsyncIteration):
        await reader
    deliver(ours, 1)
    assert ours.pending == 0
    assert ours.closed
    await ours.close()


@virtual
async def test_async_with():
    async with subscription() as ours:
        deliver(ours, 1)
    assert [event async for event in ours] == []


@virtual
async def test_end_lets_what_has_come_be_read():
    ours = subscription()
    deliver(ours, 1)
    deliver(ours, 2)
    ours.end()
    deliver(ours, 3)
    assert [event.payload async for event in ours if isinstance(event, fdn.Event)] == [1, 2]


@virtual
async def test_full_only_where_a_publisher_must_wait():
    waits, drops = subscription("wait", 1), subscription("drop_oldest", 1)
    for ours in (waits, drops):
        deliver(ours, 1)
    assert (waits.full, drops.full) == (True, False)
    waiting = asyncio.create_task(waits.wait_room())
    await asyncio.sleep(1)
    assert not waiting.done()
    await payloads(waits, 1)
    await waiting
    deliver(waits, 2)
    waiting = asyncio.create_task(waits.wait_room())
    await asyncio.sleep(1)
    await waits.close()
    await waiting


@virtual
async def test_what_cannot_be():
    assert policy_of("wait") is Policy.WAIT
    with pytest.raises(fdn.ConfigError, match="policy='drop'; expected wait, drop_oldest, drop_newest"):
        policy_of("drop")
    with pytest.raises(fdn.ConfigError, match="queue_max=0"):
        subscription(events_max=0)


@virtual
async def test_drain_lets_what_has_come_be_read_and_then_ends():
    ours = subscription()
    for number in range(3):
        deliver(ours, number)
    await ours.drain()
    deliver(ours, 3)
    assert [event.payload async for event in ours if isinstance(event, fdn.Event)] == [0, 1, 2]
    await ours.drain()
    await ours.close()


@virtual
async def test_headers():
    ours = subscription()
    deliver(ours, 1, {MetaKey.HEADERS: {"tenant": "a"}})
    deliver(ours, 2, {MetaKey.HEADERS: {"tenant": 7}})
    deliver(ours, 3)
    events = [await anext(ours) for _ in range(3)]
    assert [dict(event.headers) for event in events if isinstance(event, fdn.Event)] == [{"tenant": "a"}, {}, {}]

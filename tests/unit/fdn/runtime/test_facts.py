import asyncio
import gc

from fdn.runtime.facts import FactsMissed, FactStream, LinkUp, MemberAlive
from tests.unit.fdn.harness import virtual


def up(number: int) -> LinkUp:
    return LinkUp(float(number), f"n{number}", "data", "memory://x")


@virtual
async def test_every_reader_gets_every_fact_in_order():
    stream = FactStream(10)
    one, two = stream.read(), stream.read()
    for number in range(3):
        stream.publish(up(number))
    stream.close()
    assert [fact async for fact in one] == [fact async for fact in two] == [up(0), up(1), up(2)]


@virtual
async def test_reading_begins_when_it_is_asked_for():
    stream = FactStream(10)
    stream.publish(up(0))
    reader = stream.read()
    stream.publish(up(1))
    assert await anext(reader) == up(1)


@virtual
async def test_a_slow_reader_learns_how_many_it_has_missed():
    stream = FactStream(3)
    reader = stream.read()
    for number in range(10):
        stream.publish(up(number))
    assert await anext(reader) == FactsMissed(7.0, 7)
    assert [await anext(reader) for _ in range(3)] == [up(7), up(8), up(9)]
    stream.publish(up(10))
    assert await anext(reader) == up(10)


@virtual
async def test_a_reader_waits_for_the_next():
    stream = FactStream(3)
    reader = stream.read()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(1)
    assert not waiting.done()
    stream.publish(up(1))
    assert await waiting == up(1)


@virtual
async def test_a_waiting_reader_ends_with_the_stream():
    stream = FactStream(3)
    reader = stream.read()
    waiting = asyncio.ensure_future(anext(reader, None))
    await asyncio.sleep(1)
    stream.close()
    assert await waiting is None
    assert [fact async for fact in reader] == []
    assert [fact async for fact in stream.read()] == []


@virtual
async def test_a_reader_that_is_dropped_is_forgotten():
    stream = FactStream(3)
    for _ in range(100):
        stream.read()
    gc.collect()
    stream.publish(up(1))
    assert not stream._readers


def test_facts_are_values():
    fact = MemberAlive(1.0, "n1-id", "n1", (1, 0), "")
    assert fact == MemberAlive(1.0, "n1-id", "n1", (1, 0), "")

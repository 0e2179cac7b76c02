"""Shared memory between whole nodes; they are in one process, but each has a pool and a probe of its own."""

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np
import pytest

import fdn
from fdn.runtime.sharing import SHM
from fdn.settings import SharedSettings
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from transports.errors import SegmentUnavailable
from transports.parcel import EXT_BUFFER
from transports.shm.names import FOLDER, is_name
from transports.shm.segment import segment_of
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey

pytestmark = pytest.mark.skipif(not os.path.isdir(FOLDER), reason=f"this system has no {FOLDER}")

KIB = 1024


class Sink:
    def __init__(self) -> None:
        self.held: list[Any] = []

    def total(self, array: Any) -> float:
        return float(array.sum())

    def hold(self, array: Any) -> None:
        self.held.append(array)

    async def slow(self, array: Any) -> None:
        await asyncio.sleep(1)

    def back(self, value: Any) -> Any:
        return value

    async def later(self, value: memoryview) -> int:
        await asyncio.sleep(0.5)
        return len(value)

    async def each(self, array: Any) -> AsyncIterator[Any]:
        for row in array:
            yield row

    async def sums(self, arrays: AsyncIterator[Any]) -> float:
        return sum([float(array.sum()) async for array in arrays])


async def cluster(world: World, n: int = 2, **shared: Any) -> tuple[list[fdn.Node], Sink]:
    sink, app = Sink(), fdn.App()
    app.service("sink", concurrency=1)(sink)
    first = await world.start("n1", app, shared=SharedSettings(**shared))
    others = [await world.start(f"n{index + 2}", shared=SharedSettings(**shared)) for index in range(n - 1)]
    await world.settle()
    return [first, *others], sink


async def shared(node: fdn.Node) -> Any:
    return (await node.stats()).shared


@virtual
async def test_an_array_is_passed_as_a_handle_and_given_back():
    async with World() as world:
        (one, two), sink = await cluster(world)
        array = two.shared_array((100, 1000), "int32")
        array[:] = 7
        await two.cast("sink.hold", array)
        await until(lambda: len(sink.held) == 1)
        held = sink.held[0]
        assert (held.dtype, held.shape, held.flags.writeable) == (np.dtype("int32"), (100, 1000), False)
        array[3, 3] = 8
        assert held[3, 3] == 8  # it is the same memory
        assert ((await shared(two)).passed, (await shared(one)).mapped) == (1, 1)
        await asyncio.sleep(0.1)
        assert (await shared(two)).in_flight == 0
        del array
        assert (await shared(two)).own == 0
        assert int(held.sum()) == 7 * 100_000 + 1
        sink.held.clear()
        del held
        gc.collect()
        assert (await shared(one)).mapped == 0


@virtual
async def test_everything_that_carries_attachments_carries_handles():
    async with World() as world:
        (one, two), _ = await cluster(world)
        array = two.shared_array((4, 32 * KIB))
        array[:] = 1
        assert await two.call("sink.total", array) == 4 * 32 * KIB
        assert await two.call("sink.total", array[1:3]) == 2 * 32 * KIB
        back = await two.call("sink.back", {"here": [array]})
        assert back["here"][0].sum() == array.sum()
        assert [row.sum() async for row in two.stream("sink.each", array)] == [32 * KIB] * 4
        assert await two.call("sink.sums", items=[array, array[:1]], timeout=5) == 5 * 32 * KIB
        buffer = two.shared_buffer(100 * KIB)
        assert await two.call("sink.later", buffer) == 100 * KIB
        assert (await shared(two)).passed >= 7
        assert (await shared(one)).passed >= 5  # it passed on what it had received
        subscription = await one.subscribe("news")
        await two.publish("news", array)
        event = await anext(aiter(subscription))
        assert isinstance(event, fdn.Event)
        assert event.payload.sum() == array.sum()
        assert (await shared(one)).lost == (await shared(two)).lost == 0


@virtual
async def test_handles_count_for_credit():
    async with World() as world:
        (_one, two), _ = await cluster(world)
        arrays = [two.shared_array(1024 * KIB, "uint8") for _ in range(44)]
        credit = two.settings.data.credit_bytes // (1024 * KIB // 4)
        casts = [asyncio.ensure_future(two.cast("sink.slow", array)) for array in arrays]
        await asyncio.sleep(0.2)
        assert (await shared(two)).passed <= credit + 2
        await asyncio.sleep(100)
        assert (await shared(two)).passed == 44
        await asyncio.gather(*casts)


@virtual
async def test_what_is_small_or_not_shared_goes_as_ever():
    async with World() as world:
        (_one, two), _ = await cluster(world)
        small = two.shared_array(10)
        small[:] = 1
        assert await two.call("sink.total", small) == 10
        assert await two.call("sink.total", np.ones(100_000)) == 100_000
        strided = two.shared_array((1000, 1000))
        strided[:] = 1
        assert await two.call("sink.total", strided[:, ::2]) == 500_000
        assert (await shared(two)).passed == 0


@virtual
async def test_full_memory_falls_back_to_frames_and_is_counted(monkeypatch, caplog):
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with World() as world:
        (_one, two), _ = await cluster(world)
        monkeypatch.setattr(os, "posix_fallocate", full)
        array = two.shared_array(100_000)
        array[:] = 1
        assert await two.call("sink.total", array) == 100_000
        stats = await shared(two)
        assert (stats.refused, stats.passed) == (1, 0)
        assert "No space left" in caplog.text


@virtual
async def test_a_node_that_does_not_share_gets_frames():
    async with World() as world:
        (_one, two), _ = await cluster(world, enabled=False)
        array = two.shared_array(100_000)
        array[:] = 1
        assert await two.call("sink.total", array) == 100_000
        assert (await shared(two)).passed == 0
        sharing = await world.start("n9", shared=SharedSettings())
        await world.settle()
        array = sharing.shared_array(100_000)
        array[:] = 1
        assert await sharing.call("sink.total", array) == 100_000
        assert (await shared(sharing)).passed == 0


@virtual
async def test_a_peer_that_crashes_with_a_handle_in_flight_leaks_nothing():
    async with World() as world:
        (one, two), _ = await cluster(world)
        array = two.shared_array(100_000)
        await two.call("sink.total", array)  # the link is open
        one._data.map_shared = lambda session, envelopes: []  # it is about to crash, and does no more
        await two.cast("sink.hold", array)
        del array
        await asyncio.sleep(0.1)
        assert (await shared(two)).in_flight == 1
        world.crash(one)
        await until(lambda: not two._sharing._pool._lent)
        assert (await shared(two)).own == 0


@virtual
async def test_memory_that_is_gone_is_an_error_to_whoever_waits(monkeypatch):
    def no_descriptors(name: str, offset: int, length: int) -> memoryview:
        raise SegmentUnavailable(os.strerror(errno.EMFILE))

    async with World() as world:
        (one, two), sink = await cluster(world)
        array = two.shared_array((4, 32 * KIB))
        await two.call("sink.total", array)
        with monkeypatch.context() as there:
            there.setattr(one._sharing._pool, "receive", no_descriptors)
            with pytest.raises(fdn.Unreachable, match="Too many open files"):  # the CALL
                await two.call("sink.total", array)
            await two.cast("sink.hold", array)
            with pytest.raises(fdn.Unreachable, match="Too many open files"):  # an ITEM of a request
                await two.call("sink.sums", items=[array], timeout=5)
        monkeypatch.setattr(two._sharing._pool, "receive", no_descriptors)
        with pytest.raises(fdn.Unreachable, match="Too many open files"):  # the REPLY
            await two.call("sink.back", array)
        with pytest.raises(fdn.Unreachable, match="Too many open files"):  # an ITEM of a reply
            [row async for row in two.stream("sink.each", array)]
        assert sink.held == []
        await asyncio.sleep(0.1)
        for node in (one, two):  # they were told, though it could not be mapped
            assert (await shared(node)).in_flight == 0


@virtual
async def test_a_peer_may_name_anything_and_gets_nothing(monkeypatch):
    async with World() as world:
        (one, two), sink = await cluster(world)
        array = two.shared_array(100_000)
        with monkeypatch.context() as mute:
            mute.setattr(one._sharing, "map_shared", lambda session, envelopes: [])
            mute.setattr(one._data, "map_shared", one._sharing.map_shared)
            await two.cast("sink.hold", array)
            await until(lambda: len(two._sharing._pool._lent) == 1)
            await asyncio.sleep(0.1)
        mallory = await Mallory(world).dial(two)
        for words in (body({"a": 1}), body("x"), body([-1, 1 << 63]), body([1, 2, 3])):
            mallory.connection.send_exempt(Envelope(Kind.CORE, SHM, body=words))
        mallory.connection.send_exempt(Envelope(Kind.CORE, "fdn.other", body=body([1])))
        await until(lambda: two._sharing.malformed == 2)
        await asyncio.sleep(0.1)
        assert len(two._sharing._pool._lent) == 1  # it was not lent to Mallory

        handle = {int(MetaKey.ATTACHMENTS): [0], int(MetaKey.SHARED): [0]}
        part = msgspec.msgpack.encode([1, "fdn-" + "0" * 32, 0, 100])
        call = Envelope(Kind.CAST, "sink.hold", 0, 0, handle, body(msgspec.msgpack.Ext(EXT_BUFFER, b"\0\0")))
        to_one = (await Mallory(world).dial(one)).connection
        to_one._write(encode_batch((call,)), [part])  # type: ignore[attr-defined]  # the twin's own
        await until(lambda: one._sharing.stats().lost == 1)
        assert sink.held == []


@virtual
async def test_probes_and_segments_are_removed_with_the_node():
    before = {name for name in os.listdir(FOLDER) if is_name(name)}
    async with World() as world:
        (one, two), _ = await cluster(world)
        array = two.shared_array(100_000)
        await two.call("sink.total", array)
        assert {name for name in os.listdir(FOLDER) if is_name(name)} - before
        probes = {two._sharing.probe, one._sharing.probe}
        segment = segment_of(array)
        assert segment is not None
        name = segment.name
        del array, segment
    gc.collect()
    assert not set(os.listdir(FOLDER)) & {*probes, name}


@virtual
@pytest.mark.parametrize(("shape", "dtype"), [(-1, "f8"), ((2, -1), "f8"), (3, object), (3, "nonsense"), ("x", "f8")])
async def test_impossible_arrays_are_refused(shape: Any, dtype: Any):
    async with World() as world:
        (one,), _ = await cluster(world, 1)
        with pytest.raises(fdn.BadRequest, match="shared_array"):
            one.shared_array(shape, dtype)
        with pytest.raises(fdn.BadRequest, match="shared_buffer"):
            one.shared_buffer(-1)
        assert one.shared_array((0, 5)).shape == (0, 5)
        assert one.shared_array(()).shape == ()
        assert len(one.shared_buffer(0)) == 0

"""Blobs on whole nodes over the in-memory transport."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import blake3
import msgspec
import pytest

import fdn
from fdn.messaging.blobs.saving import part_path
from fdn.settings import BlobSettings
from tests.unit.fdn.harness import World, virtual

KIB = 1024
DATA = os.urandom(1000 * KIB + 17)
SMALL = BlobSettings(piece_bytes=64 * KIB, window_pieces=4)


def received(blob: fdn.Blob, node: fdn.Node) -> fdn.Blob:
    """As `node` gets it."""
    return fdn.Blob(blob.reference, node._blobs)


async def parts(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


def plain_parts(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 100 * KIB):
        yield data[at : at + 100 * KIB]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "original"
    path.write_bytes(DATA)
    return path


@virtual
async def test_a_blob_of_anything_is_the_same_blob(file):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        for source in (file, str(file), DATA, bytearray(DATA), memoryview(DATA), parts(DATA), plain_parts(DATA)):
            async with await one.blob(source) as blob:
                assert (blob.id, blob.size) == (blake3.blake3(DATA).hexdigest(), len(DATA))
                assert await received(blob, two).read() == DATA
        assert (await one.stats()).blobs.holdings.held == 0


@virtual
async def test_it_is_saved_with_progress(file, tmp_path):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = received(await one.blob(file), two)
        told: list[tuple[int, int]] = []
        await blob.save(tmp_path / "copy", progress=lambda done, size: told.append((done, size)))
        assert (tmp_path / "copy").read_bytes() == DATA
        assert told[0] == (0, len(DATA))
        assert told[-1] == (len(DATA), len(DATA))
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert sorted(os.listdir(tmp_path)) == ["copy", "original"]


@virtual
async def test_a_cancelled_save_is_gone_on_with(file, tmp_path):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = received(await one.blob(file), two)
        target = tmp_path / "copy"

        def stop(done: int, size: int) -> None:
            if done >= 5 * 64 * KIB:
                saving.cancel()

        saving = asyncio.ensure_future(blob.save(target, progress=stop))
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert part_path(target, bytes.fromhex(blob.id)).stat().st_size >= 5 * 64 * KIB
        before = (await two.stats()).blobs.fetched.pieces
        told: list[int] = []
        await blob.save(target, progress=lambda done, size: told.append(done))
        assert told[0] >= 5 * 64 * KIB
        assert (await two.stats()).blobs.fetched.pieces - before <= 11
        assert target.read_bytes() == DATA


@virtual
async def test_who_saved_it_can_be_a_further_holder(file, tmp_path):
    async with World() as world:
        one, two, three = await world.cluster(3, blobs=SMALL)
        blob = await one.blob(file)
        copy = received(blob, two)
        await copy.save(tmp_path / "copy", hold=True)
        blob.release()
        assert await received(blob, three).read() == DATA  # found by asking
        named = received(copy.held_by(two.id), three)
        assert named.holders == (one.id, two.id)
        assert await named.read() == DATA
        copy.release()
        with pytest.raises(fdn.NotFound, match="does not hold blob"):
            await received(blob, three).read()


@virtual
async def test_a_released_blob_says_so(file):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = await one.blob(file)
        blob.release()
        blob.release()
        with pytest.raises(fdn.NotFound, match="it was released"):
            await received(blob, two).read()


@virtual
async def test_a_file_that_has_changed_is_not_served(file):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = await one.blob(file)
        os.truncate(file, 10)
        with pytest.raises(fdn.Conflict, match="has changed since"):
            await received(blob, two).read()


@virtual
async def test_pieces_are_read_one_by_one(file):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = received(await one.blob(file), two)
        came = b"".join([bytes(piece) async for piece in blob.pieces()])
        assert came == DATA
        async for piece in blob.pieces():
            assert bytes(piece) == DATA[: 64 * KIB]
            break


@virtual
async def test_a_reference_that_names_another_blobs_pieces_is_found_at_the_end(file, tmp_path):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        good = await one.blob(file)
        outline = one._blobs._holdings.get(bytes.fromhex(good.id))
        assert outline is not None
        wrong_id = bytes(32)
        one._blobs._holdings._held[wrong_id] = outline
        wrong = fdn.Blob(
            type(good.reference)(wrong_id, good.size, good.reference.piece, good.reference.outline, (one.id,)),
            two._blobs,
        )
        with pytest.raises(fdn.Corrupt, match="has the id"):
            await wrong.read()
        with pytest.raises(fdn.Corrupt, match="has the id"):
            await wrong.save(tmp_path / "copy")
        assert os.listdir(tmp_path) == ["original"]


@virtual
async def test_the_bounds(file):
    async with World() as world:
        one, two = await world.cluster(
            2, blobs=BlobSettings(held_max=2, memory_bytes_max=100, read_bytes_max=1000, piece_bytes=64 * KIB)
        )
        await one.blob(b"x")
        with pytest.raises(fdn.Overloaded, match="memory_bytes_max"):
            await one.blob(DATA)
        big = await one.blob(file)
        with pytest.raises(fdn.Overloaded, match="held_max"):
            await one.blob(b"y")
        with pytest.raises(fdn.BadRequest, match="read_bytes_max"):
            await received(big, two).read()


@virtual
@pytest.mark.parametrize("source", [17, None, memoryview(b"0123")[::2]])
async def test_what_is_no_source_is_refused(source: Any):
    async with World() as world:
        (one,) = await world.cluster(1)
        with pytest.raises(fdn.BadRequest, match="no blob can be made"):
            await one.blob(source)
        with pytest.raises(FileNotFoundError):
            await one.blob("/nowhere/at/all")


@virtual
async def test_a_source_that_fails_leaves_nothing(tmp_path):
    closed = []

    async def breaks() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            raise ZeroDivisionError
        finally:
            closed.append(True)

    async with World() as world:
        (one,) = await world.cluster(1, blobs=BlobSettings(spool_dir=str(tmp_path)))
        with pytest.raises(ZeroDivisionError):
            await one.blob(breaks())
        assert closed
        assert os.listdir(tmp_path) == []
        assert (await one.stats()).blobs.holdings.held == 0


@virtual
async def test_nothing_is_held_when_the_node_has_stopped(file):
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        blob = await one.blob(file)
        copy = received(blob, two)
        await one.stop()
        blob.release()
        with pytest.raises(fdn.Error):
            await copy.read()


@virtual
async def test_it_is_not_offered_as_a_service():
    async with World() as world:
        (one,) = await world.cluster(1)
        assert one.offers().get(one.id, ()) == ()


class Order(msgspec.Struct):
    name: str
    model: fdn.Blob
    others: list[fdn.Blob] = []
    bulk: bytes = b""


class Store:
    async def typed(self, order: Order) -> fdn.Blob:
        assert bytes(await order.model.read()) == DATA
        return order.model

    async def plain(self, value: Any) -> Any:
        return value

    async def several(self, blob: fdn.Blob, at: int) -> bytes:
        return bytes((await blob.read())[at : at + 10])

    async def stream(self, blob: fdn.Blob) -> AsyncIterator[fdn.Blob]:
        yield blob


def store() -> fdn.App:
    app = fdn.App()
    app.service("store")(Store)
    return app


@virtual
async def test_a_blob_travels_in_any_message(file):
    async with World() as world:
        one, two = await world.cluster(2, store(), blobs=SMALL)
        blob = await one.blob(file)
        for bulk in (b"", bytes(200 * KIB)):  # with attachments, too
            order = Order("x", blob, [blob], bulk)
            assert await two.call("store.typed@n1", order, returns=fdn.Blob) == blob
            assert (await two.call("store.plain@n1", order))["others"] == [blob]
            assert (await two.call("store.plain@n2", order, returns=Order)).model.holders == (one.id,)
        assert await two.call("store.several@n1", {"blob": blob, "at": 1000}) == DATA[1000:1010]
        assert [each async for each in two.stream("store.stream@n1", blob, returns=fdn.Blob)] == [blob]


@virtual
async def test_an_event_may_hold_a_blob_and_all_who_hear_it_can_fetch(file):
    async with World() as world:
        one, two, three = await world.cluster(3, blobs=SMALL)
        subscriptions = [await node.subscribe("models.new", payload=fdn.Blob) for node in (two, three)]
        await one.publish("models.new", await one.blob(file))
        for subscription in subscriptions:
            event = await anext(aiter(subscription))
            assert isinstance(event, fdn.Event)
            assert await event.payload.read() == DATA


@virtual
async def test_what_is_no_reference_is_refused_where_it_arrives(file):
    async with World() as world:
        _one, two = await world.cluster(2, store(), blobs=SMALL)
        for bad in (b"", b"\xc1", msgspec.msgpack.encode({"id": b"x"})):
            with pytest.raises(fdn.BadRequest, match="does not fit"):
                await two.call("store.plain@n1", msgspec.msgpack.Ext(4, bad))


@virtual
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system shares no memory")
async def test_the_pieces_of_a_blob_in_shared_memory_pass_as_handles():
    async with World() as world:
        one, two = await world.cluster(2, blobs=SMALL)
        buffer = one.shared_buffer(len(DATA))
        buffer[:] = DATA
        async with await one.blob(buffer) as blob:
            assert await received(blob, two).read() == DATA
        stats = await one.stats()
        assert stats.shared.passed == len(DATA) // (64 * KIB)  # the last, small piece goes in the message
        assert stats.shared.in_flight == 0

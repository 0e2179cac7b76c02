import asyncio
import threading

import pytest

from fdn.errors import BadRequest, NotFound, Overloaded
from fdn.messaging.blobs.content import FileContent, MemoryContent
from fdn.messaging.blobs.holdings import (
    OUTLINE_PIECES_MAX,
    READ_BYTES_MAX,
    BlobService,
    Holdings,
    OutlineOf,
    Read,
    Stat,
    blob_requests,
)
from fdn.messaging.blobs.threads import Threads
from tests.unit.fdn.harness import virtual

PIECE = 64 * 1024


def hold(holdings: Holdings, data: bytes):
    content = MemoryContent(data)
    outline = content.outline(PIECE)
    holdings.add(outline, content)
    return outline


def service_of(holdings: Holdings) -> BlobService:
    return BlobService(holdings, "n1", Threads())


def test_what_is_held_twice_is_released_twice():
    holdings = Holdings(10, 1000)
    outline = hold(holdings, b"abc")
    assert hold(holdings, b"abc") == outline
    assert (holdings.stats().held, holdings.stats().memory_bytes) == (1, 3)
    holdings.release(outline.id)
    assert holdings.get(outline.id) is not None
    holdings.release(outline.id)
    assert holdings.get(outline.id) is None
    assert holdings.stats().memory_bytes == 0
    holdings.release(outline.id)


def test_the_bounds_are_kept_and_named():
    holdings = Holdings(2, 10)
    hold(holdings, b"12345678")
    with pytest.raises(Overloaded, match=r"blobs\.memory_bytes_max=10"):
        hold(holdings, b"345")
    hold(holdings, b"4")
    with pytest.raises(Overloaded, match=r"blobs\.held_max"):
        hold(holdings, b"")
    assert hold(holdings, b"4")  # which is held already


@virtual
async def test_requests_are_answered_from_what_is_held():
    holdings = Holdings(10, 1 << 20)
    data = bytes(range(256)) * 1024
    outline = hold(holdings, data)
    service = service_of(holdings)
    assert await service.stat(Stat(outline.id)) == {"size": len(data), "piece": PIECE, "outline": outline.digest}
    assert await service.outline(OutlineOf(outline.id)) == outline.pieces
    assert await service.outline(OutlineOf(outline.id, 1, 2)) == outline.pieces[32:96]
    assert bytes(await service.read(Read(outline.id, 10, 20))) == data[10:30]
    assert (holdings.stats().reads, holdings.stats().bytes_read) == (1, 20)


@virtual
async def test_requests_that_make_no_sense_are_refused():
    holdings = Holdings(10, 1 << 20)
    outline = hold(holdings, bytes(100))
    service = service_of(holdings)
    for offset, length in ((-1, 10), (0, 0), (90, 11), (0, READ_BYTES_MAX + 1)):
        with pytest.raises(BadRequest):
            await service.read(Read(outline.id, offset, length))
    for first, count in ((-1, 1), (0, 0), (0, OUTLINE_PIECES_MAX + 1)):
        with pytest.raises(BadRequest):
            await service.outline(OutlineOf(outline.id, first, count))
    with pytest.raises(NotFound, match="'n1' does not hold blob 00"):
        await service.stat(Stat(bytes(32)))


@virtual
async def test_a_file_is_not_closed_under_a_read(tmp_path):
    """Else its descriptor might be another file's by the time that it is read."""
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    go, began = threading.Event(), threading.Event()

    class Slow(FileContent):
        def read(self, offset: int, length: int):
            began.set()
            go.wait(10)
            return super().read(offset, length)

    content = Slow.open(path)
    outline = content.outline(PIECE)
    holdings = Holdings(10, 0)
    holdings.add(outline, content)
    reading = asyncio.ensure_future(service_of(holdings).read(Read(outline.id, 0, 10)))
    await asyncio.to_thread(began.wait, 10)
    holdings.release(outline.id)
    go.set()
    assert await reading == b"0123456789"
    assert content._file.closed


def test_the_requests_are_the_systems_own():
    service = blob_requests(service_of(Holdings(1, 1)))
    assert set(service.methods) == {"fdn.blob.stat", "fdn.blob.outline", "fdn.blob.read"}
    assert service.system

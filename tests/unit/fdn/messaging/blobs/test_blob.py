import asyncio
from typing import Any

import pytest

import fdn
from fdn.messaging.blobs.blob import Blob, homes_of
from fdn.messaging.blobs.reference import Reference
from tests.unit.fdn.harness import World, virtual


def reference(seed: int = 0, *holders: str) -> Reference:
    return Reference(bytes([seed]) * 32, 5, 1 << 20, bytes(32), holders)


class Home:
    """A node that knows some holders, and counts."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.released = 0
        self.read_here = 0

    def knows(self, reference: Reference) -> bool:
        return bool(set(reference.holders) & set(self.known))

    def pieces(self, reference: Reference) -> Any:
        raise NotImplementedError

    async def read(self, reference: Reference, progress: Any) -> memoryview:
        self.read_here += 1
        return memoryview(b"01234")

    async def save(self, *arguments: Any) -> None: ...

    def release(self, reference: Reference) -> None:
        self.released += 1


def test_equal_content_is_an_equal_blob():
    assert Blob(reference(1, "a")) == Blob(reference(1, "b"))
    assert len({Blob(reference(1, "a")), Blob(reference(1)), Blob(reference(2))}) == 2
    assert Blob(reference(1)) != reference(1)
    assert repr(Blob(reference(1, "n1-01"))) == "<fdn.Blob 010101010101 of 5 bytes, held by n1-01>"


def test_it_is_released_as_often_as_it_is_held():
    home = Home()
    blob = Blob(reference(), home, times=1)
    blob.release()
    blob.release()
    assert home.released == 1
    Blob(reference()).release()


@virtual
async def test_one_that_is_saved_to_be_held_is_released_too():
    home = Home()
    async with Blob(reference(), home) as blob:
        await blob.save("x", hold=True)
    assert home.released == 1


@virtual
async def test_it_fetches_by_the_node_of_the_loop_that_sees_a_holder():
    homes = homes_of(asyncio.get_running_loop())
    blob = Blob(reference(0, "n1"))
    with pytest.raises(fdn.Error, match="no node runs on this event loop"):
        await blob.read()
    one, two = Home("n9"), Home("n1")
    homes += [one, two]
    await blob.read()
    assert (one.read_here, two.read_here) == (0, 1)
    await Blob(reference(0, "n7")).read()
    assert one.read_here == 1


def test_further_holders_are_named_once():
    blob = Blob(reference(0, "a", "b")).held_by("b", "c")
    assert blob.holders == ("a", "b", "c")
    assert len(blob.held_by(*map(str, range(100))).holders) == 16


@virtual
async def test_a_node_is_a_home_while_it_runs():
    async with World() as world:
        (one,) = await world.cluster(1)
        assert homes_of(asyncio.get_running_loop()) == [one._blobs]
        await one.stop()
        assert homes_of(asyncio.get_running_loop()) == []

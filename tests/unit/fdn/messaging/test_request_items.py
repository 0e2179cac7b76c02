import asyncio
from typing import Any

import msgspec
import pytest

from fdn.errors import BadRequest, Denied, RemoteError
from fdn.messaging.request_items import RequestItems, announces_items, receive_items, take_item
from tests.unit.fdn.harness import body, virtual
from transports.wire.envelope import Envelope, Kind, MetaKey


class Asker:
    """The origin of a call."""

    peer = "asker"
    is_client = False

    def __init__(self) -> None:
        self.answers: list[Envelope] = []
        self.answer = self.answers.append
        self.outlet: Any = None

    def withdraw(self, call_id: int) -> None:
        """Nothing of it is on its way."""


def item(value: Any) -> Envelope:
    return Envelope(Kind.ITEM, "request", 7, 0, None, body(value))


def end(error: Any = None) -> Envelope:
    return Envelope(Kind.END, "request", 7, 0, None, body(error))


def incoming(items_max: int = 10) -> tuple[Asker, Any]:
    asker = Asker()
    return asker, receive_items(asker, 7, (items_max, 1000), asyncio.get_running_loop())


def reading(received: Any, kind: Any = int) -> RequestItems:
    return RequestItems(received, msgspec.msgpack.Decoder(kind))


@pytest.mark.parametrize(
    ("meta", "announced"),
    [
        (None, False),
        ({}, False),
        ({MetaKey.TRACE: []}, False),
        ({MetaKey.REQUEST_STREAM: False}, False),
        ({MetaKey.REQUEST_STREAM: True}, True),
    ],
)
def test_whether_a_call_announces_items(meta: Any, announced: bool):
    assert announces_items(Envelope(Kind.CALL, "any", 1, 0, meta)) is announced


@virtual
async def test_items_are_read_as_they_come_until_the_end():
    asker, received = incoming()
    received.open()
    assert [(e.kind, e.to, e.id, msgspec.msgpack.decode(e.body)) for e in asker.answers] == [
        (Kind.CREDIT, "request", 7, [10, 1000])
    ]

    async def send() -> None:
        for number in range(5):
            assert take_item(received, item(number))
            await asyncio.sleep(1)
        assert take_item(received, end())

    sending = asyncio.create_task(send())
    assert [number async for number in reading(received)] == list(range(5))
    await sending
    assert [number async for number in reading(received)] == []


@virtual
async def test_errors_of_the_caller_come_behind_its_items():
    for said, error in (
        ({"code": "denied", "message": "mine"}, Denied),
        ("text", RemoteError),
        (msgspec.Raw(b"\xa1\xff"), BadRequest),
    ):
        _, received = incoming()
        received.open()
        assert take_item(received, item(1))
        ending = end()
        ending.body = said if isinstance(said, msgspec.Raw) else body(said)
        assert take_item(received, ending)
        items = reading(received)
        assert await anext(items) == 1
        with pytest.raises(error):
            await anext(items)


@virtual
async def test_what_comes_too_early_or_does_not_fit():
    _, received = incoming(2)
    assert not take_item(received, item(0))
    received.open()
    assert take_item(received, item("text"))
    assert take_item(received, item(2))
    assert not take_item(received, item(3))
    items = reading(received)
    with pytest.raises(BadRequest, match="does not fit"):
        await anext(items)
    assert await anext(items) == 2


@virtual
async def test_a_reader_that_never_waits_gives_the_loop_its_turn():
    _, received = incoming(10_000)
    received._window = received._items_granted, received._bytes_granted = 10_000, 1 << 20
    for number in range(5000):
        assert take_item(received, item(number))
    take_item(received, end())
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert len([number async for number in reading(received)]) == 5000
    task.cancel()
    assert turns > 5

import asyncio
from typing import Any

from fdn.errors import Unreachable
from fdn.runtime.relay_hop import Hop
from tests.unit.fdn.harness import virtual
from tests.unit.fdn.runtime.harness import spin
from transports.wire.envelope import Envelope, Kind


class FakeConnection:
    def __init__(self) -> None:
        self.full = False
        self.sent: list[int] = []
        self.room = asyncio.Event()

    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope.id)

    async def wait_room(self) -> None:
        await self.room.wait()


class FakeLink:
    def __init__(self) -> None:
        self.connection: FakeConnection | None = None
        self.opened: asyncio.Future[FakeConnection] = asyncio.get_running_loop().create_future()

    async def wait_open(self) -> FakeConnection:
        return await asyncio.shield(self.opened)

    def open(self) -> FakeConnection:
        self.connection = FakeConnection()
        self.opened.set_result(self.connection)
        return self.connection


class Rig:
    def __init__(self, messages_max: int = 3, bytes_max: int = 100) -> None:
        self.link = FakeLink()
        self.unsent: list[tuple[int, str]] = []
        link: Any = self.link
        self.hop = Hop(lambda: link, messages_max, bytes_max, asyncio.get_running_loop())

    def send(self, number: int, origin: str = "a", body: bytes = b"x") -> None:
        self.hop.send(
            Envelope(Kind.RELAY, "", number, 0, None, body), origin, lambda why: self.unsent.append((number, why))
        )


@virtual
async def test_what_the_link_takes_leaves_at_once():
    rig = Rig()
    connection = rig.link.open()
    rig.send(1)
    assert (connection.sent, rig.hop.has_room) == ([1], True)


@virtual
async def test_what_waits_for_the_link_leaves_in_order_ahead_of_what_comes_later():
    rig = Rig()
    rig.send(1)
    rig.send(2)
    assert not rig.hop.has_room
    connection = rig.link.open()
    rig.send(3)
    await spin()
    assert (connection.sent, rig.unsent, rig.hop.has_room) == ([1, 2, 3], [], True)


@virtual
async def test_what_waits_for_room_leaves_when_there_is_some():
    rig = Rig()
    connection = rig.link.open()
    connection.full = True
    told: list[str] = []
    rig.send(1)
    rig.hop.when_room(lambda: told.append("room"))
    await spin()
    assert (connection.sent, told) == ([], [])
    connection.full = False
    connection.room.set()
    await spin()
    assert (connection.sent, told) == ([1], ["room"])


@virtual
async def test_each_origin_has_its_own_bounds():
    rig = Rig(messages_max=2)
    for number in (1, 2, 3):
        rig.send(number)
    rig.send(4, "b")
    assert [number for number, _ in rig.unsent] == [3]
    assert "relay.queue_messages_max" in rig.unsent[0][1]
    connection = rig.link.open()
    await spin()
    assert connection.sent == [1, 2, 4]
    rig.send(5)
    assert connection.sent[-1] == 5


@virtual
async def test_bytes_are_bounded_and_one_large_envelope_passes_alone():
    rig = Rig(bytes_max=100)
    rig.send(1, body=bytes(500))
    rig.send(2)
    assert [number for number, _ in rig.unsent] == [2]


@virtual
async def test_a_link_that_cannot_be_opened_fails_all_that_waits():
    rig = Rig()
    rig.send(1)
    rig.send(2, "b")
    rig.hop.when_room(lambda: rig.unsent.append((0, "told")))
    rig.link.opened.set_exception(Unreachable("no way"))
    await spin()
    assert rig.unsent == [(1, "no way"), (2, "no way"), (0, "told")]


@virtual
async def test_where_there_is_no_link_it_fails_at_once():
    def none() -> Any:
        raise Unreachable("no such member")

    unsent: list[str] = []
    Hop(none, 1, 1, asyncio.get_running_loop()).send(Envelope(Kind.RELAY), "a", unsent.append)
    assert unsent == ["no such member"]


@virtual
async def test_after_the_end_nothing_is_sent_and_nobody_told():
    rig = Rig()
    rig.send(1)
    rig.hop.close()
    rig.hop.close()
    connection = rig.link.open()
    await spin()
    assert (connection.sent, rig.unsent) == ([], [])

import asyncio
from typing import Any

import msgspec
import pytest

from fdn.errors import DeadlineExceeded, Denied, Error, Unreachable
from fdn.messaging.dispatch import STREAMED
from fdn.messaging.relay import relay
from fdn.messaging.stream_calls import OpenCall
from fdn.messaging.stream_flow import REPLY_STREAM, StreamReceiver, StreamSender, Window
from tests.unit.fdn.harness import body, virtual
from transports.wire.envelope import Envelope, Kind


class Rig:
    """An open call on one side, somebody who asked on the other."""

    def __init__(self, window: Window | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.granted: list[Window] = []
        self.said: list[Envelope] = []  # to who answers
        self.sent: list[Envelope] = []  # to who asked
        self.received = StreamReceiver((4, 1000), self.granted.append, loop)
        self.call = OpenCall("job", "n1", "n1", 7, self.received, self.said.append, self._cancel)
        self.sender = StreamSender(REPLY_STREAM, 9, self, window, loop)
        self.lost = False

    def try_send(self, envelope: Envelope) -> bool:
        if not self.lost:
            self.sent.append(envelope)
        return not self.lost

    async def wait_room(self) -> None:
        raise Unreachable("the asker is gone")

    async def run(self, timeout_s: float = 5.0) -> Any:
        return await relay(self.call, self.sender, timeout_s, lambda error: body(str(error)))

    def sent_values(self) -> list[Any]:
        return [None if e.body is None else msgspec.msgpack.decode(e.body) for e in self.sent]

    def _cancel(self, call: OpenCall, error: Exception | None) -> None:
        self.said.append(Envelope(Kind.CANCEL, "", call.call_id))


@virtual
async def test_one_answer_is_handed_back():
    rig = Rig()
    rig.received.one = True
    rig.received.put(body("done"))
    rig.received.end()
    assert await rig.run() == body("done")
    assert rig.sent == []


@virtual
async def test_items_are_passed_on_as_they_come_and_as_fast_as_the_asker_reads():
    rig = Rig((2, 1000))
    relaying = asyncio.create_task(rig.run())
    for number in range(4):
        assert rig.received.put(body(number))
    await asyncio.sleep(1)
    assert rig.sent_values() == [0, 1]
    assert rig.granted == [(6, 1002)]  # it holds one that waits
    rig.sender.grant((100, 1000))
    await asyncio.sleep(1)
    rig.received.end()
    assert await relaying is STREAMED
    assert rig.sent_values() == [0, 1, 2, 3, None]
    assert [(e.kind, e.id) for e in rig.sent][-1] == (Kind.END, 9)


@virtual
async def test_an_error_before_the_first_item_is_raised_and_one_behind_it_is_passed_on():
    rig = Rig()
    rig.received.end(Denied("no"))
    with pytest.raises(Denied):
        await rig.run()
    assert rig.sent == []
    rig = Rig()
    rig.received.put(body(1))
    rig.received.end(Denied("no"))
    assert await rig.run() is STREAMED
    assert rig.sent_values() == [1, "no"]


@virtual
@pytest.mark.parametrize("items", [0, 1])
async def test_silence(items: int):
    rig = Rig()
    for _ in range(items):
        rig.received.put(body(1))
    if items:
        assert await rig.run(2.0) is STREAMED
        assert "nothing came from job on node n1 in 2 s" in rig.sent_values()[-1]
    else:
        with pytest.raises(DeadlineExceeded, match="nothing came from job"):
            await rig.run(2.0)
    assert rig.said[-1].kind == Kind.CANCEL


@virtual
@pytest.mark.parametrize("how", ["the asker is gone", "cancelled"])
async def test_the_call_is_closed_however_it_ends(how: str):
    rig = Rig((1, 1000))
    relaying = asyncio.create_task(rig.run(100.0))
    rig.received.put(body(1))
    rig.received.put(body(2))
    await asyncio.sleep(1)
    if how == "cancelled":
        relaying.cancel()
    else:
        rig.lost = True
        rig.sender.grant((5, 1000))
    with pytest.raises((Error, asyncio.CancelledError)):
        await relaying
    assert rig.said == [Envelope(Kind.CANCEL, "", 7)]
    assert rig.received.take() is None

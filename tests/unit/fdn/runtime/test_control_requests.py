import asyncio
from typing import Any

import msgspec
import pytest

from fdn.errors import BadRequest, Conflict, DeadlineExceeded, Error, NotFound, Overloaded, RemoteError, Unreachable
from fdn.runtime.control_requests import ControlRequests
from fdn.runtime.sessions import Session
from tests.unit.fdn.harness import body, hello, virtual
from tests.unit.fdn.runtime.harness import GARBAGE, FakeListener, batch, identity, said, spin
from transports.channel import Channel
from transports.credit import GrantWindow
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello

NOTHING = body(None)


class Desk:
    """Requests of node `me`; what it sends is kept."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Envelope]] = []
        self.channels: list[Channel] = []
        self.reachable = True
        self.requests = ControlRequests("me-id", asyncio.get_running_loop(), 2**64 - 2, self._send)
        self.listener = FakeListener()

    def session(self, name: str = "n1") -> Session:
        first = batch(hello(Channel.COORDINATION, identity=identity(name)))
        spoken = said(first.envelopes[0], Hello)
        return Session(first, self.listener, Channel.COORDINATION, spoken, GrantWindow(1, 1))

    async def ask(self, content: msgspec.Raw = NOTHING, target: str = "fdn.test") -> Envelope:
        """Be asked by n1; returns our answer."""
        before = len(self.listener.sent)
        assert self.requests.on_envelope(self.session(), Envelope(Kind.CALL, target, 9, body=content))
        for _ in range(20):
            if len(self.listener.sent) > before:
                break
            await asyncio.sleep(0)
        _, answer = self.listener.sent[-1]
        assert answer.id == 9
        return answer

    def _send(self, node: str, envelope: Envelope, channel: Channel) -> bool:
        self.sent.append((node, envelope))
        self.channels.append(channel)
        return self.reachable


# -- asking


@virtual
async def test_a_request_and_its_reply():
    desk = Desk()
    asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", {"a": 1}, 2.5))
    await spin()
    ((node, call),) = desk.sent
    assert (node, call.kind, call.to, call.deadline_ms) == ("n1-id", Kind.CALL, "fdn.ping", 2500)
    assert said(call) == {"a": 1}
    desk.requests.on_envelope(desk.session(), Envelope(Kind.REPLY, id=call.id, body=body(["pong"])))
    assert await asking == ["pong"]
    assert desk.requests._pending == {}


@virtual
async def test_a_request_may_go_by_gossip():
    desk = Desk()
    with pytest.raises(DeadlineExceeded):
        await desk.requests.request("n1-id", "fdn.ping", None, 1.0, Channel.GOSSIP)
    desk.reachable = False
    with pytest.raises(Unreachable, match="no gossip link"):
        await desk.requests.request("n1-id", "fdn.ping", None, 1.0, Channel.GOSSIP)
    assert desk.channels == [Channel.GOSSIP] * 2


@virtual
async def test_ids_differ_and_wrap_within_64_bits():
    desk = Desk()
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await desk.requests.request("n1-id", "fdn.ping", None, 1.0)
    assert [call.id for _, call in desk.sent] == [2**64 - 1, 0, 1]


@virtual
async def test_an_error_that_was_answered():
    desk = Desk()
    asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", None, 1.0))
    await spin()
    error = {"code": "conflict", "message": "taken", "node": "n1-id"}
    desk.requests.on_envelope(desk.session(), Envelope(Kind.ERROR, id=desk.sent[0][1].id, body=body(error)))
    with pytest.raises(Conflict, match="taken") as caught:
        await asking
    assert caught.value.node == "n1-id"


@virtual
async def test_no_way_and_no_answer():
    desk = Desk()
    desk.reachable = False
    with pytest.raises(Unreachable, match="no coordination link to node n1-id"):
        await desk.requests.request("n1-id", "fdn.ping", None, 1.0)
    desk.reachable = True
    with pytest.raises(DeadlineExceeded, match=r"n1-id did not answer fdn\.ping within 1 s"):
        await desk.requests.request("n1-id", "fdn.ping", None, 1.0)
    assert desk.requests._pending == {}


@virtual
async def test_an_answer_counts_only_from_whom_was_asked_and_once():
    desk = Desk()
    asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", None, 1.0))
    await spin()
    number = desk.sent[0][1].id
    assert desk.requests.on_envelope(desk.session("n2"), Envelope(Kind.REPLY, id=number, body=body("forged")))
    assert desk.requests.on_envelope(desk.session(), Envelope(Kind.REPLY, id=number + 1, body=body("astray")))
    await spin()
    assert not asking.done()
    desk.requests.on_envelope(desk.session(), Envelope(Kind.REPLY, id=number, body=body("first")))
    desk.requests.on_envelope(desk.session(), Envelope(Kind.REPLY, id=number, body=body("second")))
    assert await asking == "first"
    desk.requests.on_envelope(desk.session(), Envelope(Kind.ERROR, id=number, body=body({})))


@pytest.mark.parametrize("content", [GARBAGE, msgspec.Raw(b"\x91" * 100_000), msgspec.Raw(b"\x81\x80\x00")])
@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.ERROR])
def test_an_answer_that_cannot_be_read(kind: Kind, content: msgspec.Raw):
    @virtual
    async def scenario() -> None:
        desk = Desk()
        asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", None, 1.0))
        await spin()
        desk.requests.on_envelope(desk.session(), Envelope(kind, id=desk.sent[0][1].id, body=content))
        with pytest.raises(Error, match="the answer cannot be read"):
            await asking

    scenario()


@virtual
async def test_an_error_of_the_wrong_shape_is_still_one():
    desk = Desk()
    asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", None, 1.0))
    await spin()
    desk.requests.on_envelope(desk.session(), Envelope(Kind.ERROR, id=desk.sent[0][1].id, body=body([1, 2])))
    with pytest.raises(RemoteError, match="without a message"):
        await asking


# -- answering


@virtual
async def test_answers_plain_and_awaited():
    desk = Desk()

    async def later(payload: Any) -> Any:
        await asyncio.sleep(0)
        return [payload, "later"]

    desk.requests.answers = {"fdn.now": lambda payload: [payload, "now"], "fdn.later": later}
    for target in ("now", "later"):
        answer = await desk.ask(body(7), f"fdn.{target}")
        assert (answer.kind, said(answer)) == (Kind.REPLY, [7, target])
    await spin()
    assert not desk.requests._tasks


@virtual
async def test_what_is_not_answered_here():
    desk = Desk()
    answer = await desk.ask(target="math.add")
    assert (answer.kind, said(answer)["code"], said(answer)["node"]) == (Kind.ERROR, NotFound.wire_code, "me-id")
    assert "data channel" in said(answer)["hint"]
    answer = await desk.ask(target="fdn." + "x" * 1000)
    assert len(said(answer)["message"]) < 300
    assert "hint" not in said(answer)


@virtual
async def test_a_payload_that_cannot_be_read():
    desk = Desk()
    desk.requests.answers = {"fdn.test": lambda payload: payload}
    for content in (GARBAGE, msgspec.Raw(b"\x91" * 100_000), msgspec.Raw(b"\x81\x80\x00")):
        answer = await desk.ask(content)
        assert (answer.kind, said(answer)["code"]) == (Kind.ERROR, BadRequest.wire_code)


@virtual
async def test_answers_that_fail(caplog: pytest.LogCaptureFixture):
    desk = Desk()

    def broken(payload: Any) -> Any:
        raise ZeroDivisionError("now")

    async def broken_later(payload: Any) -> Any:
        raise ZeroDivisionError("later")

    async def unpackable_later(payload: Any) -> Any:
        return object()

    def wrong(payload: Any) -> Any:
        raise Conflict("taken")

    desk.requests.answers = {
        "fdn.broken": broken,
        "fdn.broken_later": broken_later,
        "fdn.unpackable": lambda payload: object(),
        "fdn.unpackable_later": unpackable_later,
    }
    for target in desk.requests.answers:
        answer = await desk.ask(target=target)
        assert (answer.kind, said(answer)["code"]) == (Kind.ERROR, RemoteError.wire_code)
    assert [record.message for record in caplog.records] == ["answering a request failed"] * 4
    desk.requests.answers = {"fdn.test": wrong}
    assert said(await desk.ask())["code"] == Conflict.wire_code
    assert len(caplog.records) == 4  # what was refused on purpose is no fault of ours


@virtual
async def test_requests_being_answered_are_bounded():
    desk = Desk()
    gate = asyncio.Event()

    async def waiting(payload: Any) -> str:
        await gate.wait()
        return "done"

    desk.requests.answers = {"fdn.test": waiting}
    for number in range(257):
        desk.requests.on_envelope(desk.session(), Envelope(Kind.CALL, "fdn.test", number, body=body(None)))
    ((_, refusal),) = desk.listener.sent
    assert (refusal.id, said(refusal)["code"], said(refusal)["retryable"]) == (256, Overloaded.wire_code, True)
    gate.set()
    await spin()
    assert [answer.kind for _, answer in desk.listener.sent[1:]] == [Kind.REPLY] * 256
    desk.requests.on_envelope(desk.session(), Envelope(Kind.CALL, "fdn.test", 300, body=body(None)))
    await spin()
    assert desk.listener.sent[-1][1].id == 300


@virtual
async def test_other_kinds_are_somebody_elses():
    desk = Desk()
    assert desk.requests.on_envelope(desk.session(), Envelope(Kind.CANCEL, id=1))
    for kind in (Kind.CAST, Kind.CORE, Kind.CREDIT, 200):
        assert not desk.requests.on_envelope(desk.session(), Envelope(kind))
    assert desk.listener.sent == []


@virtual
async def test_asking_ourselves_gives_what_others_would_get():
    desk = Desk()

    async def later(payload: Any) -> Any:
        return {"pair": (1, payload)}

    desk.requests.answers = {"fdn.now": lambda payload: (1, payload), "fdn.later": later}
    assert await desk.requests.answer_here("fdn.now", 2) == [1, 2]
    assert await desk.requests.answer_here("fdn.later", 2) == {"pair": [1, 2]}
    with pytest.raises(NotFound, match=r"fdn\.never"):
        await desk.requests.answer_here("fdn.never", None)


@virtual
async def test_closing_ends_both_directions():
    desk = Desk()
    cancelled: list[str] = []

    async def endless(payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("answer")

    desk.requests.answers = {"fdn.test": endless}
    desk.requests.on_envelope(desk.session(), Envelope(Kind.CALL, "fdn.test", 1, body=body(None)))
    asking = asyncio.create_task(desk.requests.request("n1-id", "fdn.ping", None, 60.0))
    await spin()
    began = asyncio.get_running_loop().time()
    await desk.requests.close()
    with pytest.raises(Unreachable, match="this node stopped before node n1-id had answered"):
        await asking
    assert asyncio.get_running_loop().time() == began
    assert cancelled == ["answer"]
    assert desk.listener.sent == []
    await desk.requests.close()

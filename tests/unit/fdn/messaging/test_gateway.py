"""What a client sees of the cluster, with a client that is nothing but frames."""

import asyncio
from typing import Any

import msgspec
import pytest

import fdn
from tests.unit.fdn.harness import Mallory, Recorder, World, body, until, virtual
from tests.unit.transports.harness import Dialled
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity, Role


class FrameClient:
    """The minimal client of the specification."""

    def __init__(self, world: World, name: str = "client-1") -> None:
        self._peer = Mallory(world, name, name)
        self._next_id = 0
        self.line: Dialled

    async def connect(self, node: fdn.Node, channel: Channel = Channel.DATA) -> "FrameClient":
        self.line = await self._peer.dial(node, channel, role=Role.CLIENT, identity=Identity(self._peer.node))
        assert self.line.inbox.envelopes[0].kind == Kind.WELCOME
        return self

    def send(
        self, kind: Kind, target: str = "", call_id: int = 0, payload: Any = None, deadline_ms: int = 5000
    ) -> None:
        self.line.connection.send(Envelope(kind, target, call_id, deadline_ms, None, body(payload)))

    def begin(self, target: str, payload: Any = None, deadline_ms: int = 5000) -> int:
        self._next_id += 1
        self.send(Kind.CALL, target, self._next_id, payload, deadline_ms)
        return self._next_id

    async def answer(self, call_id: int) -> Envelope:
        await until(lambda: self.answers(call_id))
        (answer,) = self.answers(call_id)
        return answer

    def answers(self, call_id: int) -> list[Envelope]:
        return [e for e in self.line.inbox.envelopes if e.id == call_id and e.kind in (Kind.REPLY, Kind.ERROR)]

    async def call(self, target: str, payload: Any = None) -> Any:
        answer = await self.answer(self.begin(target, payload))
        value = msgspec.msgpack.decode(answer.body)
        if answer.kind == Kind.ERROR:
            raise fdn.errors.from_wire(value)
        return value


def app(**services: Any) -> fdn.App:
    made = fdn.App()
    for name, target in services.items():
        made.service(name)(target)
    return made


def who(context: fdn.Context) -> str:
    return context.node


@virtual
async def test_a_client_of_one_node_reaches_all():
    async with World() as world:
        first = await world.start("n1")
        for name in ("n2", "n3"):
            await world.start(name, app(who=who, echo=lambda value: value))
        await world.settle()
        client = await FrameClient(world).connect(first)
        assert sorted([await client.call("who") for _ in range(4)]) == ["n2", "n2", "n3", "n3"]
        assert await client.call("who@n3") == "n3"
        assert await client.call("echo", {"a": [1, b"x"]}) == {"a": [1, b"x"]}
        assert await client.call("echo", None) is None


@virtual
async def test_errors_reach_the_client():
    def fails() -> None:
        raise ZeroDivisionError("over there")

    async with World() as world:
        first, _ = await world.cluster(2, app(fails=fails, who=who))
        client = await FrameClient(world).connect(first)
        with pytest.raises(fdn.NotFound, match="no node offers 'whom'") as missing:
            await client.call("whom")
        assert "did you mean 'who'" in missing.value.hint
        for target in ("fails@n1", "fails@n2"):
            with pytest.raises(fdn.RemoteError, match="over there") as crashed:
                await client.call(target)
            assert "raise ZeroDivisionError" in crashed.value.remote_traceback


@virtual
async def test_a_clients_deadline_and_its_cancel_reach_the_handler():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1")
        await world.start("n2", app(r=recorder))
        await world.settle()
        client = await FrameClient(world).connect(first)
        late = await client.answer(client.begin("r.wait", 50.0, deadline_ms=500))
        assert msgspec.msgpack.decode(late.body)["code"] == "deadline_exceeded"
        await until(lambda: recorder.log == ["begun", "cancelled"])
        call_id = client.begin("r.wait", 50.0)
        await until(lambda: recorder.log == ["begun", "cancelled", "begun"])
        client.line.connection.send_exempt(Envelope(Kind.CANCEL, "", call_id))
        await until(lambda: recorder.log == ["begun", "cancelled"] * 2)
        await asyncio.sleep(1)
        assert client.answers(call_id) == []


@virtual
async def test_a_client_that_says_goodbye_gives_its_calls_up():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1", app(r=recorder))
        client = await FrameClient(world).connect(first)
        client.begin("r.wait", 50.0, deadline_ms=100_000)
        await until(lambda: recorder.log)
        client.line.connection.send_exempt(Envelope(Kind.BYE, body=body({})))
        await until(lambda: recorder.log == ["begun", "cancelled"])


@virtual
async def test_a_clients_casts():
    got: list[Any] = []
    async with World() as world:
        first = await world.start("n1")
        await world.start("n2", app(sink=got.append))
        await world.settle()
        client = await FrameClient(world).connect(first)
        for number in range(10):
            client.send(Kind.CAST, "sink", payload=number, deadline_ms=0)
        client.send(Kind.CAST, "nobody", payload=1)
        await until(lambda: len(got) == 10)
        assert sorted(got) == list(range(10))


@virtual
async def test_casts_of_a_client_that_says_goodbye_right_behind_them_arrive():
    async with World() as world:
        seen: list[int] = []

        async def take(number: int) -> None:
            seen.append(number)

        first, _second = await world.cluster(2, app(take=take))
        client = await FrameClient(world).connect(first)
        for number in range(10):
            client.send(Kind.CAST, "take", payload=number)
        client.send(Kind.BYE, payload={"reason": "done"})
        await until(lambda: sorted(seen) == list(range(10)))


@virtual
async def test_too_many_calls_of_clients_are_refused():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1", app(r=recorder), calls={"in_flight_max": 3})
        client = await FrameClient(world).connect(first)
        for _ in range(3):
            client.begin("r.wait", 1.0)
        with pytest.raises(fdn.Overloaded, match=r"calls\.in_flight_max"):
            await client.call("r.wait", 1.0)
        await until(lambda: recorder.log.count("ended") == 3)
        assert await client.call("r.wait", 0.1) == "done"


@virtual
async def test_a_node_that_stops_finishes_its_clients_calls_and_says_goodbye():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1")
        await world.start("n2", app(r=recorder))
        await world.settle()
        client = await FrameClient(world).connect(first)
        call_id = client.begin("r.wait", 2.0)
        await until(lambda: recorder.log)
        await first.stop()
        assert (await client.answer(call_id)).kind == Kind.REPLY
        await until(lambda: client.line.inbox.envelopes[-1].kind == Kind.BYE)


@virtual
async def test_a_client_that_ignores_credit_gets_its_window_and_harms_nobody():
    gate = asyncio.Event()
    made = fdn.App()

    @made.service("slow", concurrency=1, mailbox_max=50)
    async def slow() -> None:
        await gate.wait()

    made.service("who")(who)
    async with World() as world:
        first = await world.start("n1", made, data={"credit_messages": 16})
        rude = await FrameClient(world, "rude").connect(first)
        for _ in range(500):
            rude.send(Kind.CAST, "slow")
        polite = await FrameClient(world, "polite").connect(first)
        assert await polite.call("who") == "n1"
        gate.set()
        await asyncio.sleep(1)
        assert first._dispatcher.stats().queued == 0

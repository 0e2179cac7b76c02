"""What a client sees of the cluster, with a client that is nothing but frames."""

import asyncio
from typing import Any

import msgspec
import pytest

import fdn
from tests.unit.fdn.harness import Mallory, Recorder, World, body, until, virtual
from tests.unit.fdn.messaging.frames import StreamClient
from tests.unit.fdn.messaging.streaming import Streams, no_streams_left
from tests.unit.fdn.messaging.streaming import app as streaming_app
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


@virtual
async def test_a_clients_call_is_made_again_at_a_node_that_has_not_failed_it():
    async def refuses() -> None:
        await asyncio.sleep(0.1)
        raise fdn.Overloaded("not now")

    async with World() as world:
        first = await world.start("n1", calls={"retries": 1})
        await world.start("n2", app(job=refuses))
        await world.start("n3", app(job=lambda: "done"))
        await world.settle()
        client = await FrameClient(world).connect(first)
        numbers = [client.begin("job") for _ in range(8)]  # those that fail do so together: mere turns would meet again
        for number in numbers:
            assert (await client.answer(number)).kind == Kind.REPLY


# -- streams


@virtual
async def test_a_client_without_a_window_gets_the_stream_as_it_comes():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", streaming_app(streams))
        await world.settle()
        client = await StreamClient(world).connect(first)
        number = client.ask("s.count", 700)
        await until(lambda: client.of(number, Kind.END))
        assert client.values(number) == list(range(700))
        assert client.values(number, Kind.END) == [None]
        for target, items in (("s.one", 0), ("s.fails", 3), ("s.fails", 0), ("s.none", 0), ("s.nothing", 0)):
            payload = items if target == "s.fails" else None
            number = client.ask(target, payload)
            await until(lambda number=number: client.of(number, Kind.END, Kind.REPLY, Kind.ERROR))  # type: ignore[misc]
            assert client.values(number) == list(range(items))
            assert (
                client.of(number)[-1].kind
                == {
                    "s.one": Kind.REPLY,
                    "s.fails": Kind.END if items else Kind.ERROR,
                    "s.none": Kind.ERROR,
                    "s.nothing": Kind.END,
                }[target]
            )
        assert no_streams_left(first, second)


@virtual
async def test_a_clients_window_reaches_the_producer():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", calls={"stream_window_items": 10})
        second = await world.start("n2", streaming_app(streams))
        await world.settle()
        client = await StreamClient(world).connect(first)
        number = client.ask("s.forever", window=(3, 1000))
        await asyncio.sleep(1)
        assert client.values(number) == [0, 1, 2]
        assert streams.made <= 3 + 2 * 11
        for granted in ((2, 1000), "text", (6, 1)):
            client.say(Kind.CREDIT, number, granted, to="reply")
        client.say(Kind.CREDIT, number + 1, (100, 1000), to="reply")
        await asyncio.sleep(1)
        assert client.values(number) == list(range(6))
        client.say(Kind.CANCEL, number)
        await until(lambda: streams.log == ["closed"])
        await until(lambda: no_streams_left(first, second))
        await asyncio.sleep(1)
        assert client.of(number, Kind.END, Kind.ERROR) == []


@virtual
async def test_a_clients_request_stream():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", calls={"stream_window_items": 4})
        second = await world.start("n2", streaming_app(streams))
        await world.settle()
        client = await StreamClient(world).connect(first)
        number = client.ask("s.sum", items=True)
        sent = 0
        while sent < 50:
            await until(lambda sent=sent: granted(client, number) > sent)  # type: ignore[misc]
            for _ in range(granted(client, number) - sent):
                client.say(Kind.ITEM, number, sent, to="request")
                sent += 1
        client.say(Kind.END, number, to="request")
        await until(lambda: client.of(number, Kind.REPLY))
        assert client.values(number, Kind.REPLY) == [sum(range(sent))]
        # Its own error comes back to it, and the handler is cancelled.
        streams.log.clear()
        number = client.ask("s.sum", items=True)
        await until(lambda: granted(client, number))
        client.say(Kind.END, number, {"code": "denied", "message": "mine"}, to="request")
        await until(lambda: client.of(number, Kind.ERROR))
        assert client.values(number, Kind.ERROR)[0]["message"] == "mine"
        await until(lambda: no_streams_left(first, second))
        assert "CancelledError" in streams.log or streams.log == []


def granted(client: StreamClient, number: int) -> int:
    return max((items for items, _ in client.values(number, Kind.CREDIT)), default=0)


@virtual
async def test_a_client_that_sends_more_than_it_was_granted_is_refused_once_and_counted():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams), calls={"stream_window_items": 4})
        client = await StreamClient(world).connect(first)
        number = client.ask("s.sum", items=True)
        for item in range(100):
            client.say(Kind.ITEM, number, item, to="request")
        client.say(Kind.END, number, to="request")
        await until(lambda: client.of(number, Kind.ERROR))
        await asyncio.sleep(1)
        assert len(client.of(number, Kind.ERROR, Kind.REPLY)) == 1
        assert client.values(number, Kind.ERROR)[0]["code"] == "bad_request"
        assert first._gateway.overruns == 1
        for target in ("s.one", "s.inline"):  # items for what takes none, and for nobody
            number = client.ask(target)
            client.say(Kind.ITEM, number, 1, to="request")
            client.say(Kind.ITEM, number + 1000, 1, to="request")
            await until(lambda number=number: client.of(number, Kind.REPLY))  # type: ignore[misc]
        assert first._data.stats().handler_faults == 0
        await until(lambda: no_streams_left(first))


@virtual
async def test_clients_that_claim_one_id_cannot_touch_each_others_calls():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        owner, thief = [await StreamClient(world).connect(first) for _ in range(2)]
        number = owner.ask("s.forever", window=(2, 1000))
        summed = owner.ask("s.sum", items=True)
        await until(lambda: len(owner.values(number)) == 2 and granted(owner, summed))
        for victim in (number, summed):
            thief.say(Kind.CREDIT, victim, (1000, 10_000), to="reply")
            thief.say(Kind.ITEM, victim, 1000, to="request")
            thief.say(Kind.END, victim, to="request")
            thief.say(Kind.CANCEL, victim)
        thief.say(Kind.BYE, 0, {})
        await asyncio.sleep(1)
        assert len(owner.values(number)) == 2
        owner.say(Kind.ITEM, summed, 5, to="request")
        owner.say(Kind.END, summed, to="request")
        await until(lambda: owner.of(summed, Kind.REPLY))
        assert owner.values(summed, Kind.REPLY) == [5]
        owner.say(Kind.BYE, 0, {})
        await until(lambda: streams.log[-1] == "closed")
        await until(lambda: no_streams_left(first))


@virtual
async def test_a_client_that_claims_a_nodes_id_cannot_touch_its_calls():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        second = await world.start("n2")
        await world.settle()
        async with second.stream("s.forever") as stream:
            assert await anext(stream) == 0
            (call_id,) = second._streams._open
            thief = await StreamClient(world, second.id).connect(first)
            made = streams.made
            thief.say(Kind.CREDIT, call_id, (1 << 40, 1 << 40), to="reply")
            thief.say(Kind.CANCEL, call_id)
            await asyncio.sleep(1)
            assert streams.made == made
            assert await anext(stream) == 1
        await until(lambda: streams.log == ["closed"])


@virtual
@pytest.mark.parametrize("target", ["s.forever", "s.guarded", "s.sum"])
async def test_a_client_that_dies_without_a_word_closes_its_streams(target: str):
    streams = Streams()
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", streaming_app(streams))
        await world.settle()
        client = await StreamClient(world).connect(first)
        number = client.ask(target, window=(3, 1000), items=target == "s.sum", deadline_ms=10**9)
        await until(lambda: second._dispatcher.stats().running == 1)
        await asyncio.sleep(5)  # it is there, and quiet: nothing happens to it
        assert second._dispatcher.stats().running == 1
        assert client.of(number, Kind.ERROR, Kind.END) == []
        client.die()
        await until(lambda: no_streams_left(first, second), timeout_s=5)
        assert streams.log[-1] in ("closed", "CancelledError")
        assert first._data.stats().sessions.open <= 8


@virtual
async def test_a_client_that_has_died_is_noticed_by_its_next_answer():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1", app(r=recorder))
        client = await StreamClient(world).connect(first)
        client.ask("r.wait", 1.0)
        client.ask("r.wait", 500.0, deadline_ms=10**9)
        await until(lambda: len(recorder.log) == 2)
        client.die()
        await until(lambda: sorted(recorder.log[2:]) == ["cancelled", "ended"])

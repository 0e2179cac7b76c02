"""Peers that send garbage, lies and absurdities to whole nodes, on every channel, with and without an introduction."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

import fdn
from fdn.runtime.facts import HandshakeRefused
from tests.unit.fdn.harness import Mallory, World, body, hello, until, virtual
from topologies import records, swim
from topologies.identity import NodeId
from topologies.swim.messages import Gossip, Message, Ping
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity, Role

GARBAGE = [
    b"\xc0",
    b"\xa1\xff",  # no UTF-8
    b"\x91" * 100 + b"\x01",  # deep
    msgspec.msgpack.encode({}),
    msgspec.msgpack.encode([]),
    msgspec.msgpack.encode(["Ping"]),
    msgspec.msgpack.encode(["Ping", -1, [[1, 2, 3]]]),
    msgspec.msgpack.encode(["Ping", 2**63, []]),
    msgspec.msgpack.encode(["Ack", 7, [["", [1, 0], "alive"]]]),
    msgspec.msgpack.encode(["Gossip", [["x", [-1, 0], "alive"], ["y", [1, 0], "bogus"]]]),
    msgspec.msgpack.encode(["PushPull", [["x" * 1000, [1, 0], "alive"]], True]),
    msgspec.msgpack.encode(["Digest", "", "", {"x": [1, "one"]}]),
    msgspec.msgpack.encode(["Want", [5]]),
    msgspec.msgpack.encode(["Push", [["n1", [2**62, 1], b""]]]),
    msgspec.msgpack.encode("x" * 10_000),
]
KINDS = (*(int(kind) for kind in Kind if kind not in (Kind.HELLO, Kind.BYE)), 0, 99, 2**31, -1)


def member(node: fdn.Node, name: str) -> Any:
    return node._view.named(name)


def who() -> fdn.App:
    app = fdn.App()
    app.service("who")(answer)
    return app


def answer(context: fdn.Context) -> str:
    return context.node


async def all_well(*nodes: fdn.Node) -> None:
    """Every node sees every other, and reaches it."""
    ids = {node.id for node in nodes}
    for node in nodes:
        await until(lambda node=node: {m.node for m in node.reachable()} >= ids)  # type: ignore[misc]
        for other in nodes:
            await node.ping(other.name, "data")


def core(message: Message) -> Envelope:
    return Envelope(Kind.CORE, "fdn.swim", body=msgspec.Raw(swim.encode(message)))


def claim(about: fdn.Node, status: swim.Status, incarnation: tuple[int, int], **changes: Any) -> swim.Claim:
    given = {"name": about.name, "endpoints": about.endpoints, "by": NodeId("mallory-1")} | changes
    return swim.Claim(NodeId(about.id), incarnation, status, **given)


# -- garbage


@pytest.mark.parametrize("introduced", [True, False])
@virtual
async def test_garbage_of_every_kind_on_every_channel_stops_nobody(introduced: bool, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    async with World() as world:
        first, second = await world.cluster(2)
        for channel in Channel:
            mallory = Mallory(world, f"m-{channel.value}", f"m-{channel.value}-1")
            line = await mallory.dial(first, channel, greet=introduced)
            sent = 0
            for kind in KINDS:
                for garbage in GARBAGE:
                    for to in ("", "fdn.swim", "fdn.records", "fdn.other"):
                        line.connection.send_exempt(Envelope(kind, to, 1, 0, None, msgspec.Raw(garbage)))
                        sent += 1
            await asyncio.sleep(1)
            stats = await first.stats()
            unintroduced = stats.control.sessions.unintroduced + stats.data.sessions.unintroduced
            if not introduced:
                assert unintroduced == sent * (list(Channel).index(channel) + 1)
                assert line.inbox.envelopes == []  # nothing is answered
        assert stats.data.handler_faults == 0
        if introduced:
            assert unintroduced == 0
            assert stats.control.malformed > 0
            assert stats.control.unknown_kinds > 0
            assert stats.data.malformed > 0
        assert len(caplog.records) < 100  # counted, and not logged one by one
        await all_well(first, second)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage[:12].hex())
@virtual
async def test_a_hello_that_is_none_is_refused(garbage: bytes):
    async with World() as world:
        first = await world.start("n1")
        for channel in Channel:
            line = await Mallory(world).dial(first, channel, greet=False)
            line.connection.send_exempt(Envelope(Kind.HELLO, body=msgspec.Raw(garbage)))
            (refusal,) = await line.inbox.count(1)
            assert refusal.kind == Kind.REFUSED
            assert msgspec.msgpack.decode(refusal.body)["code"] == "malformed"


@virtual
async def test_a_hello_as_long_as_a_frame_is_refused():
    async with World() as world:
        first = await world.start("n1")
        for channel in Channel:
            line = await Mallory(world).dial(first, channel, greet=False)
            endless = Identity("m-1", "m", (1, 0), {f"{n}": "x" * 100 for n in range(10_000)})
            line.connection.send_exempt(hello(channel, identity=endless))
            (refusal,) = await line.inbox.count(1)
            assert refusal.kind == Kind.REFUSED


@virtual
async def test_an_absurd_identity_harms_nobody():
    async with World() as world:
        first, second = await world.cluster(2)
        absurd = [
            Identity(""),
            Identity("x" * 5000),
            Identity("a", "b" * 5000),
            Identity("a", "\0\n", (-5, -5), {"coordination": "nonsense"}),
            Identity("b", "b", (2**62, 2**62), {channel.value: "http://x" for channel in Channel}),
            Identity("c", "c", (1, 0), {channel.value: "tcp://0.0.0.0:0" for channel in Channel}),
            Identity("d", "d", (1, 0), {str(number): "memory://d" for number in range(200)}),
            Identity(first.id, "n1", (1, 0), {channel.value: "memory://nowhere" for channel in Channel}),
        ]
        for number, identity in enumerate(absurd):
            for channel in Channel:
                line = await Mallory(world, f"m{number}", f"m{number}").dial(first, channel, identity=identity)
                line.connection.send(Envelope(Kind.CALL, "fdn.node.ping", 1))
        await asyncio.sleep(5)
        await all_well(first, second)
        assert first._data.stats().handler_faults == 0


@virtual
async def test_refusals_are_told():
    async with World() as world:
        first = await world.start("n1")
        facts = first.facts()
        for said in ({"cluster": "west"}, {"versions": (5, 6)}, {"says": "data"}):
            line = await Mallory(world).dial(first, Channel.COORDINATION, **said)
            assert line.inbox.envelopes[0].kind == Kind.REFUSED
        line = await Mallory(world, "n1").dial(first, Channel.COORDINATION)
        assert msgspec.msgpack.decode(line.inbox.envelopes[0].body)["code"] == "name_taken"
        await first.stop()
        told = [fact async for fact in facts if isinstance(fact, HandshakeRefused)]
        assert [fact.code for fact in told] == ["wrong_cluster", "no_common_version", "wrong_channel", "name_taken"]
        assert all(fact.inbound for fact in told)


# -- lies


@pytest.mark.parametrize("status", list(swim.Status))
@pytest.mark.parametrize("incarnation", [(1, 0), (1, 7), (3, 0)])
@virtual
async def test_lies_about_a_member_are_refuted(status: swim.Status, incarnation: tuple[int, int]):
    async with World() as world:
        first, second, third = await world.cluster(3)
        line = await Mallory(world).dial(first, Channel.GOSSIP)
        elsewhere = {channel.value: f"memory://mallory.{channel.value}" for channel in Channel}
        line.connection.send_exempt(core(Gossip((claim(second, status, incarnation, endpoints=elsewhere),))))
        await asyncio.sleep(1)
        await all_well(first, second, third)
        for node in (first, third):
            assert dict(member(node, "n2").endpoints) == dict(second.endpoints)


@virtual
async def test_lies_about_the_listener_itself_are_refuted():
    async with World() as world:
        first, second = await world.cluster(2)
        line = await Mallory(world).dial(first, Channel.GOSSIP)
        for status in swim.Status:
            line.connection.send_exempt(core(Ping(1, (claim(first, status, (1, 50)),))))
        await until(lambda: member(second, "n1").incarnation > (1, 50))
        await all_well(first, second)


@virtual
async def test_a_forged_record_does_not_last():
    async with World() as world:
        first, second = await world.cluster(2, who())
        line = await Mallory(world).dial(first, Channel.GOSSIP)
        forged = records.Push((records.Record(NodeId(second.id), (1, 99), b"\xc1"),))
        line.connection.send_exempt(Envelope(Kind.CORE, "fdn.records", body=msgspec.Raw(records.encode(forged))))
        await asyncio.sleep(30)  # until the next exchange of digests
        assert [offer.name for offer in first.offers()[second.id]] == ["who"]
        assert await first.call("who@n2") == "n2"


@virtual
async def test_invented_members_are_found_out():
    async with World() as world:
        first, second = await world.cluster(2)
        line = await Mallory(world).dial(first, Channel.GOSSIP)
        for number in range(100):
            where = {channel.value: f"memory://x{number}.{channel.value}" for channel in Channel}
            invented = swim.Claim(NodeId(f"x{number}-1"), (1, 0), swim.Status.ALIVE, f"x{number}", where)
            line.connection.send_exempt(core(Gossip((invented,))))
        await until(lambda: len(first.members()) == 102)
        await until(lambda: len([m for m in second.members() if m.status == "dead"]) == 100, timeout_s=300)
        await all_well(first, second)


@virtual
async def test_clients_have_no_say_in_membership():
    async with World() as world:
        first, second = await world.cluster(2)
        line = await Mallory(world).dial(first, Channel.GOSSIP, role=Role.CLIENT, identity=Identity(second.id, "n2"))
        line.connection.send_exempt(core(Gossip((claim(second, swim.Status.DEAD, (1, 0)),))))
        line.connection.send_exempt(Envelope(Kind.BYE, body=body({})))
        await asyncio.sleep(1)
        assert first._control.stats().swim.suspicions == 0
        await all_well(first, second)
        assert member(first, "n2").incarnation == (1, 0)


@virtual
async def test_whoever_borrows_an_identity_gets_none_of_its_answers_and_silences_nobody():
    async with World() as world:
        first, second = await world.cluster(2, who())
        thief = Mallory(world, "thief", second.id)
        thief.listen()
        for channel in Channel:
            borrowed = Identity(second.id, "n2", (1, 0), thief.endpoints)
            await thief.dial(first, channel, identity=borrowed)
        assert {await second.call("who@n1") for _ in range(20)} == {"n1"}
        await all_well(first, second)
        assert not [e for inbox in thief.heard.values() for e in inbox.envelopes if e.kind in (Kind.REPLY, Kind.CALL)]

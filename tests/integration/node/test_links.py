"""The rules of links (DESIGN section 3), each on real sockets, with peers that do not keep to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio

import fdn
from fdn.settings import DataSettings, LinkSettings, Settings
from tests.integration.ports import free_base
from transports.channel import Channel
from transports.wire.envelope import Kind

CLUSTER = "links"


class Peer:
    """A DEALER that says whatever a test wants, in bytes of its own making."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(endpoint)

    async def say(self, *envelopes: list[Any]) -> None:
        await self._socket.send(b"\x01" + msgpack.packb(list(envelopes)))

    async def hello(
        self, channel: str, node: str, endpoints: dict[str, str] | None = None, /, **changes: Any
    ) -> list[Any]:
        body = {
            "versions": [1, 1],
            "cluster": CLUSTER,
            "identity": {"node": node, "name": node, "incarnation": [1, 0], "endpoints": endpoints or {}},
            "channel": channel,
            "epoch": 7,
        }
        await self.say([Kind.HELLO, "", 0, 0, None, body | changes])
        return await self.hear()

    async def hear(self, timeout_s: float = 10.0) -> list[Any]:
        async with asyncio.timeout(timeout_s):
            frame = await self._socket.recv()
        envelopes: list[Any] = msgpack.unpackb(frame[1:], strict_map_key=False)
        return list(envelopes[0])

    async def silence(self) -> bool:
        return not await self._socket.poll(100)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@contextlib.asynccontextmanager
async def dialled(endpoint: str) -> AsyncIterator[Peer]:
    peer = Peer(endpoint)
    try:
        yield peer
    finally:
        peer.close()


def settings(name: str, **changes: Any) -> Settings:
    return Settings(name=name, cluster=CLUSTER, **changes)


async def eventually(what: str, holds: Any) -> None:
    loop = asyncio.get_running_loop()
    gives_up_at = loop.time() + 15
    while True:
        answer = holds()
        if await answer if asyncio.iscoroutine(answer) else answer:
            return
        assert loop.time() < gives_up_at, what
        await asyncio.sleep(0.01)


async def unintroduced(node: fdn.Node) -> int:
    stats = await node.stats()
    return stats.control.sessions.unintroduced + stats.data.sessions.unintroduced


@pytest.mark.parametrize("channel", list(Channel))
def test_nothing_is_believed_before_hello(channel: Channel) -> None:
    async def scenario() -> None:
        called: list[object] = []
        async with fdn.Node(settings=settings("n1")) as node:
            node.serve("note", called.append)
            async with dialled(node.endpoints[channel]) as stranger:
                await stranger.say([Kind.CALL, "note", 1, 5000, None, 1], [Kind.CAST, "note", 0, 0, None, 2])
                await stranger.say([Kind.CORE, "fdn.swim", 0, 0, None, ["Gossip", []]])
                await eventually("three were counted", lambda: _counted(node, 3))
                assert await stranger.silence()
                welcome = await stranger.hello(channel, "stranger")
                assert welcome[0] == Kind.WELCOME
            assert called == []
            assert [member.name for member in node.members()] == ["n1"]

    asyncio.run(scenario())


async def _counted(node: fdn.Node, count: int) -> bool:
    return await unintroduced(node) >= count


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cluster": "other"}, "wrong_cluster"),
        ({"versions": [9, 12]}, "no_common_version"),
        ({"channel": "events"}, "wrong_channel"),
        ({"identity": 5}, "malformed"),
    ],
)
def test_a_bad_hello_is_refused_with_a_reason(changes: dict[str, Any], code: str) -> None:
    async def scenario() -> None:
        async with fdn.Node(settings=settings("n1")) as node, dialled(node.endpoint) as peer:
            kind, _, _, _, _, body = await peer.hello("coordination", "n2", **changes)
            assert kind == Kind.REFUSED
            assert body["code"] == code
            if code == "wrong_cluster":
                assert "'links'" in body["reason"]
                assert "'other'" in body["reason"]

    asyncio.run(scenario())


def test_a_second_dialler_cannot_take_anothers_replies() -> None:
    async def scenario() -> None:
        async with fdn.Node(settings=settings("n1")) as server:
            gate = asyncio.Event()

            async def wait() -> str:
                await gate.wait()
                return "for the victim"

            server.serve("wait", wait)
            async with fdn.Node(settings=settings("victim", join=(server.endpoint,))) as victim:
                call = asyncio.create_task(victim.call("wait"))
                await eventually("the call has arrived", lambda: _running(server, 1))
                async with dialled(server.endpoints["data"]) as thief:
                    # The victim's whole identity, endpoints included; and then with the thief's own.
                    assert (await thief.hello("data", victim.id, dict(victim.endpoints)))[0] == Kind.WELCOME
                    assert (await thief.hello("data", victim.id, {}))[0] == Kind.WELCOME
                    gate.set()
                    assert await call == "for the victim"
                    assert await thief.silence()
                # Nor does its coming and going end the victim's own session.
                assert await victim.call("wait") == "for the victim"

    asyncio.run(scenario())


async def _running(node: fdn.Node, count: int) -> bool:
    return (await node.stats()).dispatch.running == count


def test_an_answer_from_another_node_than_was_asked_is_not_believed() -> None:
    async def scenario() -> None:
        async with fdn.Node(settings=settings("n1")) as server:
            gate = asyncio.Event()
            ids: list[int] = []

            async def wait() -> str:
                await gate.wait()
                return "true"

            server.serve("wait", wait)
            async with fdn.Node(settings=settings("n2", join=(server.endpoint,))) as caller:
                call = asyncio.create_task(caller.call("wait"))
                await eventually("it is under way", lambda: _in_flight(caller, ids))
                async with dialled(caller.endpoints["data"]) as liar:
                    await liar.hello("data", "liar")
                    await liar.say([Kind.REPLY, "", ids[0], 0, None, "false"])
                    await eventually("it was counted", lambda: _stray(caller))
                gate.set()
                assert await call == "true"

    asyncio.run(scenario())


async def _in_flight(node: fdn.Node, ids: list[int]) -> bool:
    ids[:] = node._caller._pending
    return bool(ids)


async def _stray(node: fdn.Node) -> bool:
    return (await node.stats()).calls.stray_answers >= 1


def test_a_peer_that_restarts_never_sees_an_old_queue() -> None:
    async def scenario() -> None:
        first: list[int] = []
        second: list[int] = []
        small = DataSettings(credit_messages=16)
        base = f"tcp://127.0.0.1:{free_base()}"
        server = fdn.Node(settings=settings("n1", bind=base, data=small))
        await server.start()
        blocked = asyncio.Event()

        async def take(number: int) -> None:
            first.append(number)
            await blocked.wait()

        server.serve("take", take, concurrency=1)
        async with fdn.Node(settings=settings("n2", join=(base,))) as sender:
            sending = asyncio.create_task(_send_all(sender))
            await eventually("credit is used up", lambda: len(first) == 1)
            await eventually("much is queued here", lambda: _queued(sender))
            blocked.set()
            await _crash(server)
            with pytest.raises(fdn.Error):
                await sending
            again = fdn.Node(settings=settings("n1", bind=base, join=(sender.endpoint,)))
            await again.start()
            try:
                again.serve("take", second.append)
                await eventually("it is offered anew", lambda: any(sender.offers().get(again.id, ())))
                await sender.cast("take", -1)
                await eventually("the new one arrives", lambda: bool(second))
                assert second == [-1]
            finally:
                await again.stop()

    asyncio.run(scenario())


async def _send_all(sender: fdn.Node) -> None:
    number = 0
    while True:
        await sender.cast("take", number)
        number += 1


async def _queued(node: fdn.Node) -> bool:
    return any(link.queued_messages > 1000 for link in (await node.stats()).data.links.values())


async def _crash(node: fdn.Node) -> None:
    """Close the sockets without a word to the cluster, as far as that is possible inside one process."""
    await node._data.close()
    await node._host.run(node._control.close(""))
    node._closers.clear()
    await node._host.close(5.0)
    node._state = "stopped"


def test_one_full_peer_harms_no_other() -> None:
    async def scenario() -> None:
        never = asyncio.Event()
        small = DataSettings(credit_messages=16)

        async def stuck(number: int) -> None:
            await never.wait()

        async with fdn.Node(settings=settings("n1")) as well:
            well.serve("echo", lambda text: text)
            async with (
                fdn.Node(settings=settings("n2", join=(well.endpoint,), data=small)) as full,
                fdn.Node(settings=settings("n3", join=(well.endpoint,))) as sender,
            ):
                full.serve("take", stuck, concurrency=1)
                await eventually("it is offered", lambda: any(sender.offers().get(full.id, ())))
                sending = asyncio.create_task(_send_all(sender))
                await eventually("the sender is held back", lambda: _queued(sender))
                held = (await sender.stats()).calls.casts
                for number in range(200):
                    assert await sender.call("echo@n1", number) == number
                assert (await sender.stats()).calls.casts == held
                assert await sender.ping("n2", "coordination") > 0
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    asyncio.run(scenario())


def test_data_links_open_on_first_use_and_close_when_idle() -> None:
    async def scenario() -> None:
        quick = LinkSettings(idle_close_s=0.2)
        async with fdn.Node(settings=settings("n1")) as server:
            server.serve("echo", lambda text: text)
            async with fdn.Node(settings=settings("n2", join=(server.endpoint,), links=quick)) as caller:
                assert not (await caller.stats()).data.links
                assert await caller.call("echo@n1", "a") == "a"
                assert list((await caller.stats()).data.links) == [f"{server.id} data"]
                await eventually("it is closed", lambda: _no_links(caller))
                assert await caller.call("echo@n1", "b") == "b"
                assert all(member.reachable for member in caller.members())

    asyncio.run(scenario())


async def _no_links(node: fdn.Node) -> bool:
    return not (await node.stats()).data.links


def test_an_idle_link_with_a_call_under_way_stays() -> None:
    async def scenario() -> None:
        quick = LinkSettings(idle_close_s=0.1)
        done = asyncio.Event()

        async def wait() -> str:
            await done.wait()
            return "done"

        async with fdn.Node(settings=settings("n1", links=quick)) as server:
            server.serve("wait", wait)
            async with fdn.Node(settings=settings("n2", join=(server.endpoint,), links=quick)) as caller:
                call = asyncio.create_task(caller.call("wait@n1", timeout=30))
                await eventually("it runs", lambda: _running(server, 1))
                await asyncio.get_running_loop().run_in_executor(None, _several_sweeps)
                done.set()
                assert await call == "done"

    asyncio.run(scenario())


def _several_sweeps() -> None:
    zmq.Poller().poll(400)  # longer than it takes to find a link idle, four times over


def test_no_option_of_zeromq_that_would_break_the_rules_is_ever_set() -> None:
    import inspect

    import transports.zmq.connection
    import transports.zmq.listener
    import transports.zmq.sockets

    for module in (transports.zmq.connection, transports.zmq.listener, transports.zmq.sockets):
        source = inspect.getsource(module)
        assert "zmq.ROUTING_ID" not in source
        assert "zmq.ROUTER_HANDOVER" not in source

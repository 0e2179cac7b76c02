import asyncio
import gc
import random
from typing import Any

import pytest

from fdn.errors import Unreachable
from fdn.runtime.link import Link, LinkState
from fdn.runtime.outlets import ClientOutlet, LinkOutlet
from fdn.settings import LinkSettings
from tests.unit.fdn.harness import body, until, virtual
from tests.unit.fdn.runtime.harness import FakeListener, LoggedTransport, Peer, greeter, said
from transports.channel import Channel
from transports.memory import MemoryNetwork
from transports.wire.envelope import Envelope, Kind


def item(number: int) -> Envelope:
    return Envelope(Kind.ITEM, "", 7, 0, None, body(number))


class Owner:
    """A link's, that takes no notice."""

    def on_link_open(self, link: Link, welcome: Any) -> None: ...

    def on_link_refused(self, link: Link, refused: Any) -> None: ...

    def on_link_lost(self, link: Link, event: Any, was_open: bool, dropped: int) -> None: ...

    def on_link_batch(self, link: Link, batch: Any) -> None: ...


def link_to(peer: Peer, network: MemoryNetwork) -> Link:
    return Link(
        transport=LoggedTransport(network),
        channel=Channel.DATA,
        endpoint=peer.endpoint,
        peer=peer.node,
        kept=False,
        greeter=greeter(),
        owner=Owner(),
        settings=LinkSettings(),
        loop=asyncio.get_running_loop(),
        rng=random.Random(7),
    )


async def sent(outlet: LinkOutlet | ClientOutlet, envelope: Envelope) -> None:
    while not outlet.try_send(envelope):
        await outlet.wait_room()


# -- on a link


@virtual
async def test_an_outlet_opens_its_link_and_keeps_it_in_use_as_long_as_it_lives():
    network = MemoryNetwork()
    peer = Peer(network)
    link = link_to(peer, network)
    outlet = LinkOutlet(link)
    assert link.state is LinkState.DIALING
    assert list(link.users) == [outlet]
    assert not outlet.try_send(item(0))
    for number in range(5):
        await sent(outlet, item(number))
    await until(lambda: [e.id for e in peer.heard] == [7] * 5)
    del outlet
    gc.collect()
    assert not link.users


@virtual
async def test_a_link_that_was_hung_up_by_ourselves_is_opened_again():
    network = MemoryNetwork()
    peer = Peer(network)
    link = link_to(peer, network)
    outlet = LinkOutlet(link)
    await sent(outlet, item(1))
    link.hang_up("idle")
    await sent(outlet, item(2))
    await until(lambda: len([e for e in peer.heard if e.kind == Kind.ITEM]) == 2)


@virtual
@pytest.mark.parametrize("when", ["before it opened", "in the middle", "while it waits"])
async def test_nothing_follows_what_may_be_lost(when: str):
    network = MemoryNetwork()
    peer = Peer(network)
    link = link_to(peer, network)
    outlet = LinkOutlet(link)
    if when != "before it opened":
        await sent(outlet, item(1))
    waits = None
    if when == "while it waits":
        assert link.connection is not None
        link.connection.full = True  # type: ignore[misc]  # of the twin it is an attribute
        waits = asyncio.create_task(outlet.wait_room())
        await asyncio.sleep(0.1)
    peer.crash()
    await until(lambda: link.losses)
    with pytest.raises(Unreachable):
        await (waits or sent(outlet, item(2)))
    peer.listen()
    await link_opened(link)
    assert not outlet.try_send(item(3))  # a new connection makes it no better
    with pytest.raises(Unreachable, match="was lost in the middle of a stream"):
        await outlet.wait_room()
    await sent(LinkOutlet(link), item(4))
    await until(lambda: bool(peer.heard) and said(peer.heard[-1]) == 4)


async def link_opened(link: Link) -> None:
    while True:
        try:
            await link.wait_open()
            return
        except Unreachable:
            await asyncio.sleep(0.1)


@virtual
async def test_a_link_that_is_closed_for_good_fails_its_outlets():
    network = MemoryNetwork()
    link = link_to(Peer(network), network)
    outlet = LinkOutlet(link)
    await sent(outlet, item(1))
    link.close()
    assert not outlet.try_send(item(2))
    with pytest.raises(Unreachable, match="the link is closed"):
        await outlet.wait_room()


# -- to a client


@virtual
async def test_a_client_that_is_slow_is_waited_for():
    listener = FakeListener()
    gone: list[bytes] = []
    outlet = ClientOutlet(listener, b"source", (), asyncio.get_running_loop(), gone.append)
    listener.full = True
    sending = asyncio.create_task(sent(outlet, item(1)))
    await asyncio.sleep(20)
    listener.full = False
    await sending
    listener.full = True
    sending = asyncio.create_task(sent(outlet, item(2)))
    await asyncio.sleep(20)  # the patience is for each
    listener.full = False
    await sending
    assert listener.sent == [(b"source", item(1)), (b"source", item(2))]


@virtual
async def test_a_client_that_takes_nothing_for_long_is_held_gone():
    listener = FakeListener()
    gone: list[bytes] = []
    outlet = ClientOutlet(listener, b"source", (), asyncio.get_running_loop(), gone.append)
    listener.full = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable, match="read nothing for 30 s"):
        await sent(outlet, item(1))
    assert 30 <= asyncio.get_running_loop().time() - began < 31


@virtual
async def test_a_client_that_is_gone_is_not_waited_for():
    listener = FakeListener()
    gone: list[bytes] = []
    outlet = ClientOutlet(listener, b"source", (), asyncio.get_running_loop(), gone.append)
    listener.gone = True
    with pytest.raises(Unreachable, match="this client is gone"):
        await sent(outlet, item(1))
    assert gone == [b"source"]

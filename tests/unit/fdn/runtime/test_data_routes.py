import asyncio
import dataclasses
from typing import Any

from fdn.runtime.data_routes import DataRoutes
from fdn.runtime.link import LinkState
from tests.unit.fdn.harness import virtual


@dataclasses.dataclass
class FakeLink:
    peer: str
    state: LinkState


def link(peer: str, state: LinkState = LinkState.OPEN) -> Any:
    return FakeLink(peer, state)


def make() -> DataRoutes:
    return DataRoutes(asyncio.get_running_loop())


@virtual
async def test_a_way_is_direct_until_another_is_chosen():
    routes = make()
    assert (routes.of("c"), "c" in routes) == ((), False)
    assert not routes.set("c", ())
    assert routes.set("c", ("b",))
    assert not routes.set("c", ("b",))
    assert (routes.of("c"), "c" in routes) == (("b",), True)
    assert routes.set("c", ("d",))
    assert routes.set("c", ())
    assert "c" not in routes


@virtual
async def test_an_adopted_way_is_kept_if_it_is_confirmed_in_time():
    routes = make()
    assert routes.adopt("c", ("b",))
    assert not routes.adopt("c", ("d",))
    routes.adopt("e", ("b",))
    routes.confirmed("e")
    assert routes.unconfirmed() == []
    await asyncio.sleep(2.1)
    assert routes.unconfirmed() == ["c"]
    assert routes.unconfirmed() == []


@virtual
async def test_who_is_in_use_is_reported_when_it_changes():
    routes = make()
    links = [link("b"), link("c", LinkState.IDLE), link("d", LinkState.DIALING)]
    assert routes.report(links) == {"b": True, "d": True}
    assert routes.report(links) is None
    routes.attempted("d", opened=False)
    assert routes.report(links) == {"b": True, "d": False}
    routes.attempted("d", opened=True)
    assert routes.report(links) == {"b": True, "d": True}
    await asyncio.sleep(14.0)
    assert routes.report([]) is None  # a new way begins without a link
    await asyncio.sleep(2.0)
    assert routes.report([]) == {}


@virtual
async def test_who_cannot_be_connected_to_is_tried_while_it_is_talked_to_over_others():
    routes = make()
    routes.attempted("c", opened=False)
    assert routes.failing() == []
    routes.set("c", ("b",))
    assert routes.failing() == ["c"]
    assert routes.report([link("c")]) == {"c": False}
    await asyncio.sleep(20.0)
    assert routes.report([link("c", LinkState.IDLE)]) == {}  # nobody talks to it any more
    assert routes.failing() == []


@virtual
async def test_who_is_gone_is_forgotten():
    routes = make()
    routes.adopt("c", ("b",))
    routes.attempted("c", opened=False)
    routes.forget("c")
    assert (routes.of("c"), routes.failing(), routes.report([])) == ((), [], None)
    await asyncio.sleep(3.0)
    assert routes.unconfirmed() == []

"""Over stand-ins for the planes, of which only `listen` and `unlisten` are used; tests/integration has real ports."""

import asyncio
from typing import Any

import pytest

from fdn.errors import ConfigError, Conflict
from fdn.runtime.binding import advertised, bind_all
from fdn.runtime.plane_thread import InlinePlane
from fdn.settings import Settings
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInUse, EndpointInvalid

BOUND = {
    "coordination": "tcp://127.0.0.1:7400",
    "gossip": "tcp://127.0.0.1:7401",
    "data": "tcp://127.0.0.1:7402",
    "events": "tcp://127.0.0.1:7403",
}


class FakePlane:
    """Both planes at once: a machine some of whose ports are taken."""

    def __init__(self, *taken: int, error: Exception | None = None) -> None:
        self.links = self
        self.taken = set(taken)
        self.error = error
        self.bound: list[int] = []
        self.tried: list[int] = []
        self._next = 50_000

    def listen(self, channel: Channel, endpoint: str) -> str:
        if self.error is not None:
            raise self.error
        where = Endpoint.parse(endpoint)
        port = where.port
        if port == 0:
            self._next += 1
            port = self._next
        self.tried.append(port)
        if port in self.taken or port in self.bound:
            raise EndpointInUse(endpoint)
        self.bound.append(port)
        return f"tcp://{where.host}:{port}"

    def unlisten(self) -> None:
        self.bound.clear()


def bind(plane: Any, bind_to: str) -> dict[str, str]:
    async def run() -> dict[str, str]:
        return await bind_all(Settings(bind=bind_to), InlinePlane(asyncio.get_running_loop()), plane, plane)

    return asyncio.run(run())


def test_four_ports_from_a_base():
    assert bind(FakePlane(), "tcp://127.0.0.1:7400") == BOUND


def test_four_ephemeral_ports():
    bound = bind(FakePlane(), "tcp://127.0.0.1:0")
    assert sorted(bound) == sorted(BOUND)
    assert len(set(bound.values())) == 4


@pytest.mark.parametrize("taken", [7400, 7402, 7403])
def test_a_taken_port_is_a_conflict_that_names_it(taken: int):
    plane = FakePlane(taken)
    with pytest.raises(Conflict, match=f"tcp://127.0.0.1:{taken} is taken by another process") as caught:
        bind(plane, "tcp://127.0.0.1:7400")
    assert "+" in caught.value.hint
    assert plane.bound == []  # what was bound before is free again


def test_the_next_group_that_is_free_as_a_whole():
    plane = FakePlane(7402, 7404)
    assert bind(plane, "tcp://127.0.0.1:7400+")["coordination"] == "tcp://127.0.0.1:7408"
    assert plane.bound == [7408, 7409, 7410, 7411]


def test_no_group_is_free():
    with pytest.raises(Conflict, match=r"no four free ports from 7400 to 7655"):
        bind(FakePlane(*range(7400, 8000)), "tcp://127.0.0.1:7400+")


def test_the_search_ends_with_the_ports():
    with pytest.raises(Conflict, match="no four free ports from 65528 to 65535"):
        bind(FakePlane(*range(65_000, 65_536)), "tcp://127.0.0.1:65528+")
    assert bind(FakePlane(65_528), "tcp://127.0.0.1:65528+")["events"] == "tcp://127.0.0.1:65535"


def test_an_address_of_another_machine():
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        bind(FakePlane(error=EndpointInvalid("tcp://127.9.9.9:1", "cannot be bound")), "tcp://127.0.0.1:7400")
    assert "name an address of this machine" in caught.value.hint


def test_what_others_are_told():
    assert advertised(BOUND, Settings()) == BOUND
    assert advertised(BOUND, Settings(advertise="10.0.0.5")) == {
        channel: endpoint.replace("127.0.0.1", "10.0.0.5") for channel, endpoint in BOUND.items()
    }
    assert advertised(BOUND, Settings(advertise="fe80::1"))["data"] == "tcp://[fe80::1]:7402"
    mapped = ",".join(f"{channel}=tcp://nat.example:{9000 + n}" for n, channel in enumerate(BOUND))
    assert advertised(BOUND, Settings(advertise=mapped))["events"] == "tcp://nat.example:9003"

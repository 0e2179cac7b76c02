"""One node at a time, and the next: on a virtual network and clock."""

from typing import Any

import pytest

import fdn
from fdn.client.codec import Kind
from fdn.client.connection import Dial, Hang, Phase, Tell
from fdn.client.pending import Pending
from tests.unit.fdn.client.virtual import ENDPOINTS, World, welcome

REFUSED, BYE, CREDIT = 3, 4, 16


def hello_of(world: World, channel: str) -> dict[str, Any]:
    [hello] = world.sent(channel)
    assert hello.kind == Kind.HELLO
    body: dict[str, Any] = hello.body
    return body


def test_hello_and_welcome():
    world = World()
    world.core.connection.want("coordination", world.now)
    assert world.dialled() == [("coordination", "tcp://n1:1")]
    hello = hello_of(world, "coordination")
    assert (hello["cluster"], hello["role"], hello["channel"]) == ("fdn", "client", "coordination")
    assert hello["identity"] == {"node": "client-1", "name": "a test"}
    world.hear("coordination", welcome())
    assert world.core.connection.phase is Phase.READY
    assert world.core.connection.node["name"] == "n1"


def test_other_channels_are_dialled_when_wanted_where_the_welcome_says_and_with_a_later_epoch():
    world = World()
    world.connect()
    epoch = world.links["coordination"].epoch
    world.core.connection.want("data", world.now)
    world.core.connection.want("data", world.now)
    assert world.dialled() == [("data", ENDPOINTS["data"])]
    assert hello_of(world, "data")["epoch"] > epoch
    assert world.sent("data") == []


def test_nothing_but_hello_goes_out_before_the_welcome():
    world = World()
    world.core.cast("x", b"\x01")
    world.core.connection.want("coordination", world.now)
    world.hear("coordination", welcome())
    assert world.dialled()[-1][0] == "data", "because something waits for it"
    assert [each.kind for each in world.sent("data")] == [Kind.HELLO]
    world.hear("data", welcome(credit=(5, 5000)))
    assert [each.kind for each in world.sent("data")] == [Kind.CAST]


def test_seeds_in_turn_each_with_its_share_of_the_time():
    world = World("tcp://a:1", "tcp://b:1", timeout_s=4.0)
    world.core.connection.want("coordination", world.now)
    assert world.dialled() == [("coordination", "tcp://a:1")]
    assert world.core.next_deadline() == world.now + 2.0
    world.pass_time(2.0)
    assert world.effects() == [Hang("coordination", None), Dial("coordination", "tcp://b:1")]
    world.lose("coordination")
    assert world.core.connection.phase is Phase.IDLE
    failure = world.core.connection.failure()
    assert isinstance(failure, fdn.Unreachable)
    assert "2 nodes were tried: no node answers at tcp://a:1; no node answers at tcp://b:1: the connection" in str(
        failure
    )
    assert world.core.connection.failure() is not failure, "it is raised in many threads"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("wrong_cluster", fdn.ConfigError),
        ("no_common_version", fdn.VersionMismatch),
        ("leaving", fdn.Unreachable),
        (None, fdn.Unreachable),
    ],
)
def test_refusals(code: str | None, error: type[fdn.Error]):
    world = World()
    world.core.connection.want("coordination", world.now)
    world.hear("coordination", (REFUSED, "", 0, 0, None, {"code": code, "reason": "because"}))
    assert type(world.core.connection.failure()) is error
    assert world.core.connection.failed_rounds == 1


@pytest.mark.parametrize("body", [None, 7, {}, {"identity": None}, {"identity": {"endpoints": {"data": "x"}}}])
def test_a_welcome_that_leaves_out_what_matters(body: Any):
    world = World()
    world.core.connection.want("coordination", world.now)
    world.hear("coordination", (2, "", 0, 0, None, body))
    assert "without its endpoints" in str(world.core.connection.failure())


def test_an_address_that_is_none():
    world = World("nonsense")
    world.core.connection.want("coordination", world.now)
    world.core.connection.on_undialled("coordination", "Invalid argument", world.now)
    with pytest.raises(fdn.ConfigError, match="'nonsense' cannot be dialled"):
        raise world.core.connection.failure()


def test_a_lost_node_is_left_for_another_at_once():
    world = World("tcp://n1:1", "tcp://n2:1")
    world.connect("data")
    world.pass_time(60)
    world.core.take_effects()
    world.lose("data")
    effects = world.effects()
    assert [effect.channel for effect in effects if isinstance(effect, Hang)] == ["coordination", "data"]
    assert Dial("coordination", "tcp://n2:1") in effects
    assert any(isinstance(effect, Tell) and effect.is_warning for effect in effects)
    world.hear("coordination", welcome())
    assert world.core.connection.connected == 2
    assert any(isinstance(effect, Tell) and not effect.is_warning for effect in world.effects())


def test_a_connection_that_does_not_last_is_followed_by_a_pause():
    world = World()
    world.connect()
    world.hear("coordination", (BYE, "", 0, 0, None, {"reason": "too many"}))
    world.settle()
    assert world.core.connection.phase is Phase.WAITING
    assert world.dialled() == []
    deadline = world.core.next_deadline()
    assert deadline is not None
    world.pass_time(deadline - world.now)
    assert world.dialled() == [("coordination", "tcp://n1:1")]


def test_when_nobody_is_left_it_tries_again_with_pauses_that_grow():
    world = World("tcp://a:1", chance=lambda: 1.0)
    world.connect()
    world.pass_time(100)
    world.lose("coordination")
    pauses = []
    for _ in range(8):
        world.lose("coordination")
        deadline = world.core.next_deadline()
        assert deadline is not None
        pauses.append(round(deadline - world.now, 3))
        world.pass_time(deadline - world.now)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert not world.core.connection.fails_fast


def test_a_node_whose_data_channel_cannot_be_reached_is_none_to_stay_with():
    world = World("tcp://n1:1", "tcp://n2:1")
    world.connect()
    world.core.connection.want("data", world.now)
    world.pass_time(5.0)
    assert world.core.connection.phase is Phase.WAITING
    assert world.core.connection.failed_rounds == 1
    assert "no node answers at tcp://n1:3" in str(world.core.connection.failure())
    world.core.take_effects()
    world.pass_time(5.0)
    assert world.dialled() == [("coordination", "tcp://n2:1")]


def test_without_reconnecting_a_loss_is_the_end_until_somebody_wants_it():
    world = World(reconnect=False)
    world.connect()
    world.lose("coordination")
    assert world.core.connection.phase is Phase.IDLE
    assert world.core.next_deadline() is None
    assert not any(isinstance(effect, Tell) for effect in world.effects()), "whoever waits is told"
    world.core.connection.want("coordination", world.now)
    assert world.dialled() == [("coordination", "tcp://n1:1")]


def test_credit_of_the_connection():
    world = World()
    world.connect("data", credit=(1, 1000))
    world.core.cast("a", b"\x01")
    assert len(world.sent("data")) == 1
    world.core.cast("b", b"\x01")
    assert world.sent("data") == []
    world.hear("data", (CREDIT, "", 0, 0, None, [world.links["data"].epoch, 2, 1000]))
    assert len(world.sent("data")) == 1


def test_goodbye_is_said_where_we_were_let_in():
    world = World()
    world.connect()
    world.core.connection.want("data", world.now)
    world.core.take_effects()
    world.core.connection.hang_up()
    farewells = {effect.channel: effect.farewell for effect in world.effects(Hang) if isinstance(effect, Hang)}
    assert farewells["coordination"] is not None
    assert farewells["data"] is None
    assert world.core.connection.phase is Phase.IDLE


def test_what_comes_behind_a_goodbye_is_not_believed():
    world = World()
    world.connect("data")
    world.hear("data", (BYE, "", 0, 0, None, {}), welcome())
    world.settle()
    assert not world.links["data"].dialled


def test_after_a_goodbye_on_one_channel_answers_on_another_get_a_moment():
    world = World("tcp://n1:1", "tcp://n2:1")
    world.connect("data")
    world.pass_time(5.0)
    calls = [Pending("x", "data", number, world.now + 5.0) for number in (1, 2)]
    for call in calls:
        world.core.call(call, b"\xc0")
    world.sent("data")
    world.hear("coordination", (BYE, "", 0, 0, None, {}))
    world.settle()
    assert world.core.connection.phase is Phase.LEAVING
    world.hear("data", (Kind.REPLY, "", 1, 0, None, "in time"))
    assert world.core.next_deadline() == world.now + 0.25
    world.pass_time(0.25)
    assert calls[0].result() == "in time"
    assert "is stopping before it answered x" in str(calls[1].error)
    assert ("coordination", "tcp://n2:1") in world.dialled()


def test_when_the_awaited_channel_ends_too_there_is_nothing_to_wait_for():
    world = World()
    world.connect("data")
    world.pass_time(5.0)
    call = Pending("x", "data", 1, world.now + 5.0)
    world.core.call(call, b"\xc0")
    world.sent("data")
    world.hear("coordination", (BYE, "", 0, 0, None, {}))
    world.lose("data")
    assert call.over


def test_without_anything_under_way_a_goodbye_is_the_end_at_once():
    world = World("tcp://n1:1", "tcp://n2:1")
    world.connect("data")
    world.pass_time(5.0)
    world.hear("coordination", (BYE, "", 0, 0, None, {}))
    world.settle()
    assert ("coordination", "tcp://n2:1") in world.dialled()


def test_a_frame_that_was_not_taken_is_the_next_one_again_but_not_on_another_connection():
    world = World()
    world.connect("data")
    link = world.links["data"]
    world.core.cast("a", b"\x01")
    frame = link.next_frame(world.now)
    assert frame is not None
    assert not link.has_frame
    link.hold(frame)
    assert link.has_frame
    assert link.next_frame(world.now) == frame
    link.hold(frame)
    world.lose("data")
    assert not link.has_frame

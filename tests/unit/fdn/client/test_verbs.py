"""What verbs wait for, and how they clean up: on a virtual network and clock."""

from typing import Any

import pytest

import fdn
from fdn.client.codec import Kind, Received
from fdn.client.core import Run
from fdn.client.pending import ReplyStream
from fdn.client.verbs import END
from tests.unit.fdn.client.virtual import Running, World, welcome


@pytest.fixture
def world() -> World:
    made = World("tcp://n1:1", "tcp://n2:1")
    made.connect("data", "events")
    made.pass_time(5.0)
    return made


def begin_call(world: World, target: str = "x", **settings: Any) -> Running:
    settings = {"timeout": None, "headers": None, "retry": None, "channel": "data"} | settings
    return world.run(world.verbs.call(target, 1, **settings))


def open_stream(world: World, *, streams_reply: bool = True, streams_request: bool = False) -> Any:
    opening = world.verbs.open(
        "x", None, timeout=None, headers=None, streams_reply=streams_reply, streams_request=streams_request
    )
    return world.run(opening).value()


def only(received: list[Received]) -> Received:
    [one] = received
    return one


def answer(world: World, call: Received, body: Any = None, kind: int = Kind.REPLY) -> None:
    world.hear("data", (kind, "", call.id, 0, None, body))


def test_a_call_connects_first():
    world = World()
    call = begin_call(world)
    assert world.dialled() == [("coordination", "tcp://n1:1")]
    world.hear("coordination", welcome())
    assert call.waits
    assert world.dialled() == [("data", "tcp://n1:3")]
    world.hear("data", welcome())
    assert call.waits
    answer(world, world.sent("data")[-1], 5)
    assert call.value() == 5


def test_nobody_answers_is_told_after_one_round():
    world = World("tcp://a:1", "tcp://b:1")
    call = begin_call(world, timeout=60.0)
    world.lose("coordination")
    assert call.waits
    world.lose("coordination")
    with pytest.raises(fdn.Unreachable, match="2 nodes were tried"):
        call.value()
    assert begin_call(world).waits, "the next one tries again"


def test_a_call_waits_for_the_next_node_within_its_timeout(world: World):
    for _ in range(3):
        world.lose("coordination")
    call, short = begin_call(world, timeout=20.0), begin_call(world, timeout=1.0)
    world.pass_time(1.0)
    with pytest.raises(fdn.Unreachable):
        short.value()
    while world.core.connection.phase.name != "DIALLING":
        world.pass_time(0.1)
    world.hear("coordination", welcome())
    assert call.waits
    world.hear("data", welcome())
    assert call.waits
    answer(world, world.sent("data")[-1], 5)
    assert call.value() == 5


def test_no_answer_in_time_cancels(world: World):
    call = begin_call(world, timeout=2.0)
    sent = only(world.sent("data"))
    world.pass_time(2.0)
    with pytest.raises(fdn.DeadlineExceeded, match="no answer to x"):
        call.value()
    assert [(each.kind, each.id) for each in world.sent("data")] == [(Kind.CANCEL, sent.id)]


def test_who_stops_waiting_cancels(world: World):
    call = begin_call(world)
    world.sent("data")
    call.close()
    assert only(world.sent("data")).kind == Kind.CANCEL


@pytest.mark.parametrize("retry", [2, fdn.Retry(2, pause_s=0.1, pause_max_s=1.0)])
def test_a_lost_call_is_made_again_where_that_was_asked_for(world: World, retry: Any):
    plain, call = begin_call(world), begin_call(world, retry=retry, timeout=30.0)
    world.sent("data")
    world.lose("data")
    with pytest.raises(fdn.Unreachable, match="was lost before it answered x"):
        plain.value()
    assert call.waits
    world.hear("coordination", welcome())
    assert call.waits
    world.hear("data", welcome())
    assert call.waits
    answer(world, world.sent("data")[-1], {"code": "overloaded", "message": "later"}, Kind.ERROR)
    assert call.waits, "it pauses"
    world.pass_time(1.0)
    assert call.waits
    answer(world, only(world.sent("data")), 5)
    assert call.value() == 5


def test_errors_that_do_not_pass_and_tries_that_are_used_up(world: World):
    call = begin_call(world, retry=5)
    answer(world, only(world.sent("data")), {"code": "not_found", "message": "no"}, Kind.ERROR)
    with pytest.raises(fdn.NotFound):
        call.value()
    call = begin_call(world, retry=1)
    for _ in range(2):
        assert call.waits
        answer(world, world.sent("data")[-1], {"code": "overloaded", "message": "later"}, Kind.ERROR)
        call.go()
        world.pass_time(0.1)
    with pytest.raises(fdn.Overloaded):
        call.value()


@pytest.mark.parametrize("timeout", [0, -1.0, 1e12, float("nan")])
def test_timeouts_that_are_none(world: World, timeout: float):
    with pytest.raises(fdn.BadRequest, match="timeout"):
        begin_call(world, timeout=timeout).value()


def test_channels_and_payloads_that_are_none(world: World):
    with pytest.raises(fdn.BadRequest, match="channel='gossip'"):
        begin_call(world, channel="gossip").value()
    with pytest.raises(fdn.BadRequest, match="cannot be sent"):
        world.run(world.verbs.cast("x", object(), None)).value()
    with pytest.raises(fdn.BadRequest, match="header"):
        begin_call(world, headers={"a": 1}).value()


def test_ping_measures(world: World):
    ping = world.run(world.verbs.ping("data", None))
    world.now += 0.25
    answer(world, only(world.sent("data")))
    assert ping.value() == 0.25
    with pytest.raises(fdn.BadRequest, match="channel"):
        world.run(world.verbs.ping("gossip", None)).value()


# -- without answers


def test_a_full_outbox_is_waited_for(world: World):
    limited = World()
    limited.connect("data", credit=(1, 10**9))
    limited.core.cast("first", b"\x01")
    limited.sent("data")
    casts = [limited.run(limited.verbs.cast("x", None, None)) for _ in range(1025)]
    assert [cast.waits for cast in casts] == [False] * 1024 + [True]
    limited.pass_time(5.0)
    with pytest.raises(fdn.DeadlineExceeded, match="takes no more messages"):
        casts[-1].value()
    patient = limited.run(limited.verbs.cast("x", None, None))
    drain = limited.run(limited.verbs.drain())
    limited.hear("data", (Kind.CREDIT, "", 0, 0, None, [limited.links["data"].epoch, 10_000, 10**9]))
    assert patient.waits
    assert len(limited.sent("data")) == 1024
    patient.value()
    assert drain.waits
    assert len(limited.sent("data")) == 1
    drain.value()


def test_draining_waits_neither_for_ever_nor_for_nobody(world: World):
    limited = World()
    limited.connect("data", credit=(1, 10**9))
    for _ in range(2):
        limited.core.cast("x", b"\x01")
        limited.sent("data")
    drain = limited.run(limited.verbs.drain())
    assert drain.waits
    limited.pass_time(5.0)
    drain.value()
    again = limited.run(limited.verbs.drain())
    limited.lose("data")
    again.value()


# -- streams


def test_items_until_the_end(world: World):
    stream = open_stream(world)
    call = only(world.sent("data"))
    assert call.deadline_ms > 300 * 86_400_000, "no end in sight is no deadline"
    first = world.run(world.verbs.next_item(stream, None))
    assert first.waits
    world.hear(
        "data", (Kind.ITEM, "", call.id, 0, None, 1), (Kind.ITEM, "", call.id, 0, None, 2), (Kind.END, "", call.id)
    )
    assert first.value() == 1
    assert world.run(world.verbs.next_item(stream, None)).value() == 2
    assert world.run(world.verbs.next_item(stream, None)).value() is END


def test_the_longest_silence(world: World):
    stream = open_stream(world)
    call = only(world.sent("data"))
    for number in range(3):
        read = world.run(world.verbs.next_item(stream, 2.0))
        world.pass_time(1.5)
        world.hear("data", (Kind.ITEM, "", call.id, 0, None, number))
        assert read.value() == number
    silent = world.run(world.verbs.next_item(stream, 2.0))
    world.pass_time(2.0)
    with pytest.raises(fdn.DeadlineExceeded, match="no item in 2 s"):
        silent.value()


def test_a_stream_fails_behind_what_came(world: World):
    stream = open_stream(world)
    call = only(world.sent("data"))
    world.hear("data", (Kind.ITEM, "", call.id, 0, None, 1))
    world.lose("data")
    assert world.run(world.verbs.next_item(stream, None)).value() == 1
    with pytest.raises(fdn.Unreachable, match="was lost"):
        world.run(world.verbs.next_item(stream, None)).value()
    assert isinstance(stream, ReplyStream)
    world.verbs.forget(stream)


def test_items_of_the_caller_keep_to_the_window(world: World):
    call = open_stream(world, streams_reply=False, streams_request=True)
    number = only(world.sent("data")).id
    put = world.run(world.verbs.put_item(call, 1))
    assert put.waits
    world.hear("data", (Kind.CREDIT, "request", number, 0, None, [1, 100]))
    assert put.value() is True
    second = world.run(world.verbs.put_item(call, 2))
    assert second.waits
    answer(world, Received(0, "", number, 0, {}, None, 0), "enough")
    assert second.value() is False
    assert world.run(world.verbs.answer(call)).value() == "enough"
    assert world.run(world.verbs.put_item(call, 3)).value() is False


def test_items_that_nobody_takes_end_with_the_deadline(world: World):
    call = open_stream(world, streams_reply=False, streams_request=True)
    put = world.run(world.verbs.put_item(call, 1))
    world.pass_time(5.0)
    assert put.value() is False


# -- events


def subscribe(world: World, pattern: str = "a.>", timeout: float | None = None) -> Running:
    return world.run(world.verbs.subscribe(pattern, "", timeout))


def test_subscribing_waits_for_the_node(world: World):
    wanted = subscribe(world, timeout=0.5)
    sent = only(world.sent("events"))
    assert sent.body["timeout_ms"] == 500
    assert wanted.waits
    world.hear("events", (Kind.EVENT, "a.b", sent.id, 0, None, 1), (Kind.REPLY, "", sent.id, 0, None, ["n3"]))
    inbox = wanted.value()
    assert inbox.unaware == ("n3",)
    assert world.run(world.verbs.next_event(inbox, world.now)).value().payload == 1
    read = world.run(world.verbs.next_event(inbox, world.now + 1.0))
    assert read.waits
    world.pass_time(1.0)
    assert read.value() is None
    read = world.run(world.verbs.next_event(inbox, world.now + 1.0))
    world.core.unsubscribe(inbox)
    assert read.value() is END


def test_a_subscription_that_is_refused_or_not_answered_leaves_nothing(world: World):
    refused = subscribe(world)
    world.hear("events", (Kind.ERROR, "", only(world.sent("events")).id, 0, None, {"code": "overloaded"}))
    with pytest.raises(fdn.Overloaded):
        refused.value()
    silent = subscribe(world)
    world.sent("events")
    world.pass_time(10.0)
    with pytest.raises(fdn.DeadlineExceeded, match=r"subscribing to a\.>"):
        silent.value()
    assert only(world.sent("events")).kind == Kind.UNSUBSCRIBE
    with pytest.raises(fdn.ConfigError):
        subscribe(world, "a..b").value()
    with pytest.raises(fdn.ConfigError):
        world.run(world.verbs.subscribe("a", "no spaces", None)).value()


def test_events_that_came_are_read_before_the_error(world: World):
    wanted = subscribe(world)
    number = only(world.sent("events")).id
    world.hear("events", (Kind.REPLY, "", number, 0, None, []), (Kind.EVENT, "a.b", number, 0, None, 1))
    world.hear("events", (Kind.ERROR, "", number, 0, None, {"code": "overloaded", "message": "too slow"}))
    inbox = wanted.value()
    assert world.run(world.verbs.next_event(inbox, world.now)).value().payload == 1
    with pytest.raises(fdn.Overloaded):
        world.run(world.verbs.next_event(inbox, world.now)).value()


def test_publishing_surely_waits_until_the_node_has_it(world: World):
    publishing = world.run(world.verbs.publish_surely("a", 1, {"h": "1"}, {2: "k"}, "at_least_once"))
    event = only(world.sent("events"))
    assert (event.kind, event.to, event.body) == (Kind.EVENT, "a", 1)
    assert event.meta == {2: "k", 11: {"h": "1"}, 20: [0]}
    assert event.deadline_ms == 0, "how long we wait is no deadline of the event"
    assert publishing.waits
    world.hear("data", (Kind.ACK, "", event.id, 0, None, None))
    assert publishing.waits, "not on this channel"
    world.hear("events", (Kind.ACK, "", event.id, 0, None, None), (Kind.ACK, "", 99, 0, None, None))
    assert publishing.value() is None
    assert world.sent("events") == []
    assert world.core.events_unconfirmed == 0


def test_publishing_surely_goes_on_at_the_next_node(world: World):
    publishing = world.run(world.verbs.publish_surely("a", 1, None, None, "effectively_once"))
    first = only(world.sent("events"))
    assert first.meta[7] == "client-1"
    world.lose("events")
    assert publishing.waits
    world.pass_time(0.1)
    for channel in ("coordination", "data", "events"):
        if not world.links[channel].ready:
            assert publishing.waits
            world.hear(channel, welcome())
    assert publishing.waits
    second = [each for each in world.sent("events") if each.kind == Kind.EVENT]
    assert [each.meta for each in second] == [first.meta], "so that receivers know it again"
    assert second[0].id != first.id
    world.hear("events", (Kind.ACK, "", second[0].id, 0, None, None))
    assert publishing.value() is None


def test_publishing_surely_tells_what_the_node_says(world: World):
    publishing = world.run(world.verbs.publish_surely("a", 1, None, None, "at_least_once"))
    event = only(world.sent("events"))
    world.hear("events", (Kind.ERROR, "", event.id, 0, None, {"code": "overloaded", "message": "full"}))
    with pytest.raises(fdn.Overloaded, match="full"):
        publishing.value()
    late = world.run(world.verbs.publish_surely("a", 1, None, None, "at_least_once"))
    world.pass_time(5.1)
    with pytest.raises(fdn.DeadlineExceeded):
        late.value()
    with pytest.raises(fdn.BadRequest, match="delivery='exactly_once'"):
        world.run(world.verbs.publish_surely("a", 1, None, None, "exactly_once")).value()
    assert world.run(world.verbs.publish_surely("a", 1, None, None, "at_most_once")).value() is None
    without = World("tcp://n1:1", reconnect=False)
    without.connect("events")
    lost = without.run(without.verbs.publish_surely("a", 1, None, None, "at_least_once"))
    without.sent("events")
    without.lose("events")
    with pytest.raises(fdn.Unreachable):
        lost.value()


def test_flushing(world: World):
    world.run(world.verbs.publish("a", 1, {"h": "1"})).value()
    flush = world.run(world.verbs.flush(None))
    event, ping = world.sent("events")
    assert (event.kind, event.meta, ping.to) == (Kind.EVENT, {11: {"h": "1"}}, "fdn.node.ping")
    world.core.publish("b", b"\x01")
    world.sent("events")
    world.hear("events", (Kind.REPLY, "", ping.id, 0, None, None))
    flush.value()
    assert world.core.events_unconfirmed == 1, "one went out behind the ping"
    with pytest.raises(fdn.BadRequest):
        world.run(world.verbs.publish("fdn.x", 1, None)).value()


def test_flushing_tells_what_may_be_lost(world: World):
    world.run(world.verbs.publish("a", 1, None)).value()
    world.sent("events")
    world.lose("events")
    world.hear("coordination", welcome())
    for expected in (fdn.Unreachable, None):
        flush = world.run(world.verbs.flush(None))
        if not world.links["events"].ready:
            world.hear("events", welcome())
        assert flush.waits
        world.hear("events", (Kind.REPLY, "", world.sent("events")[-1].id, 0, None, None))
        if expected:
            with pytest.raises(expected, match="may not have arrived"):
                flush.value()
        else:
            flush.value()


# -- services


def serve(world: World, **settings: Any) -> Running:
    defaults: dict[str, Any] = {"version": "", "capabilities": (), "concurrency": 4, "takes_items": False}
    return world.run(world.verbs.serve("x", handler="h", **defaults | settings))


def test_serving_until_withdrawn(world: World):
    begun = serve(world)
    sent = only(world.sent("data"))
    assert begun.waits
    world.hear("data", (Kind.REPLY, "", sent.id, 0, None, None))
    service = begun.value()
    assert service.handler == "h"
    ended = world.run(world.verbs.ended(service))
    assert ended.waits
    world.core.withdraw(service)
    ended.value()


def test_serving_that_is_refused_not_answered_or_ended(world: World):
    refused = serve(world)
    world.hear("data", (Kind.ERROR, "", only(world.sent("data")).id, 0, None, {"code": "conflict", "message": "taken"}))
    with pytest.raises(fdn.Conflict):
        refused.value()
    silent = serve(world)
    world.sent("data")
    world.pass_time(5.0)
    with pytest.raises(fdn.DeadlineExceeded, match="serving x"):
        silent.value()
    assert only(world.sent("data")).kind == Kind.UNSUBSCRIBE
    begun = serve(world)
    number = only(world.sent("data")).id
    world.hear("data", (Kind.REPLY, "", number, 0, None, None))
    ended = world.run(world.verbs.ended(begun.value()))
    world.hear("data", (Kind.ERROR, "", number, 0, None, {"code": "denied", "message": "no more"}))
    with pytest.raises(fdn.Denied):
        ended.value()


def test_a_handler_reads_items_and_yields_items(world: World):
    begun = serve(world, takes_items=True)
    world.hear("data", (Kind.REPLY, "", only(world.sent("data")).id, 0, None, None))
    begun.value()
    world.hear("data", (Kind.CALL, "x", 5, 0, {18: [1, 100], 19: True}, None))
    [run] = world.effects(Run)
    assert isinstance(run, Run)
    read = world.run(world.verbs.next_request(run.job))
    assert only(world.sent("data")).to == "request"
    assert read.waits
    world.hear("data", (Kind.ITEM, "request", 5, 0, None, "a"))
    assert read.value() == "a"
    assert world.run(world.verbs.put_reply(run.job, "A")).value() is True
    second = world.run(world.verbs.put_reply(run.job, "B"))
    assert second.waits
    world.hear("data", (Kind.CREDIT, "reply", 5, 0, None, [2, 100]), (Kind.END, "request", 5))
    assert second.value() is True
    assert world.run(world.verbs.next_request(run.job)).value() is END
    third = world.run(world.verbs.put_reply(run.job, "C"))
    world.hear("data", (Kind.CANCEL, "", 5))
    assert third.value() is False


def test_items_that_failed_over_there(world: World):
    begun = serve(world, takes_items=True)
    world.hear("data", (Kind.REPLY, "", only(world.sent("data")).id, 0, None, None))
    begun.value()
    world.hear("data", (Kind.CALL, "x", 5, 0, {19: True}, None))
    [run] = world.effects(Run)
    assert isinstance(run, Run)
    world.hear("data", (Kind.END, "request", 5, 0, None, {"code": "error", "message": "no more"}))
    with pytest.raises(fdn.Error, match="no more"):
        world.run(world.verbs.next_request(run.job)).value()

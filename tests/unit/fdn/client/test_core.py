"""What is under way, and where what comes in goes: on a virtual network and clock."""

from typing import Any

import pytest

import fdn
from fdn.client.codec import Kind, Meta, Received, encode
from fdn.client.connection import Dial, Hang
from fdn.client.core import Run, Stop
from fdn.client.inbox import Inbox
from fdn.client.pending import Pending, ReplyStream
from fdn.client.serving import Job, Service
from tests.unit.fdn.client.virtual import World, welcome

NIL = encode(None)
MEMBERS = "fdn.node.members"


@pytest.fixture
def world() -> World:
    made = World("tcp://n1:1", "tcp://n2:1")
    made.connect("data", "events")
    made.pass_time(5.0)
    return made


def pending(world: World, target: str = "x", **settings: Any) -> Pending:
    made = Pending(target, "data", world.core.new_number(), world.now + 5.0)
    world.core.call(made, NIL, **settings)
    return made


def stream(world: World) -> ReplyStream:
    made = ReplyStream("x", "data", world.core.new_number(), world.now + 5.0)
    world.core.call(made, NIL)
    return made


def serve(world: World, name: str = "x", **settings: Any) -> Service:
    service = Service(name, world.core.new_number(), **settings)
    world.core.serve(service)
    world.sent("data")
    world.hear("data", (Kind.REPLY, "", service.number, 0, None, None))
    return service


def jobs(world: World) -> list[Job]:
    return [effect.job for effect in world.effects(Run) if isinstance(effect, Run)]


def kinds(received: list[Received]) -> list[int]:
    return [each.kind for each in received]


# -- calls


def test_many_calls_at_once_on_one_connection(world: World):
    calls = [pending(world) for _ in range(3)]
    assert [each.id for each in world.sent("data")] == [call.number for call in calls]
    world.hear("data", *((Kind.REPLY, "", call.number, 0, None, n) for n, call in reversed(list(enumerate(calls)))))
    assert [call.result() for call in calls] == [0, 1, 2]


def test_a_call_tells_its_deadline_headers_and_streams(world: World):
    pending(world, headers={"a": "b"}, streams=True)
    [sent] = world.sent("data")
    assert (sent.deadline_ms, sent.meta) == (5000, {Meta.HEADERS: {"a": "b"}, Meta.REQUEST_STREAM: True})
    stream(world)
    [sent] = world.sent("data")
    assert sent.meta == {Meta.WINDOW: [256, 1024 * 1024]}


def test_an_answer_on_another_channel_or_to_nobody_is_no_answer(world: World):
    call = pending(world)
    world.hear("events", (Kind.REPLY, "", call.number, 0, None, 5))
    world.hear("data", (Kind.REPLY, "", call.number + 1, 0, None, 5), (99, "", call.number, 0, None, 5))
    assert not call.over


def test_who_gives_up_tells_the_other_side_if_it_knows(world: World):
    sent = pending(world)
    world.sent("data")
    unsent = pending(world)
    world.core.forget(sent)
    world.core.forget(sent)
    world.core.forget(unsent)
    assert [(each.kind, each.id) for each in world.sent("data")] == [(Kind.CANCEL, sent.number)]
    answered = pending(world)
    world.sent("data")
    world.hear("data", (Kind.REPLY, "", answered.number, 0, None, None))
    world.core.forget(answered)
    assert world.sent("data") == []


def test_a_stream_is_granted_more_as_it_is_read(world: World):
    some = stream(world)
    world.sent("data")
    world.hear("data", *((Kind.ITEM, "", some.number, 0, None, n) for n in range(256)))
    assert [world.core.take_item(some) for _ in range(127)] == list(range(127))
    assert world.sent("data") == []
    world.core.take_item(some)
    [credit] = world.sent("data")
    assert (credit.kind, credit.to, credit.id, credit.body[0]) == (Kind.CREDIT, "reply", some.number, 256 + 128)


def test_items_of_the_caller(world: World):
    call = pending(world, streams=True)
    world.sent("data")
    assert not call.request.may_send
    world.hear("data", (Kind.CREDIT, "request", call.number, 0, None, [2, 100]))
    assert call.request.may_send
    world.core.send_item(call, encode(1))
    world.core.end_items(call)
    assert [(each.kind, each.to, each.body) for each in world.sent("data")] == [
        (Kind.ITEM, "request", 1),
        (Kind.END, "request", None),
    ]
    world.core.end_items(call, ValueError("no more"))
    [end] = world.sent("data")
    assert end.body["message"] == "no more"
    world.hear("data", (Kind.REPLY, "", call.number, 0, None, 5))
    world.core.end_items(call)
    assert world.sent("data") == [], "it has answered before"


# -- the loss


def test_what_was_sent_fails_and_what_was_not_waits_for_the_next_node(world: World):
    sent = pending(world, "a")
    world.sent("data")
    unsent = pending(world, "b")
    world.core.cast("c", NIL)
    world.lose("data")
    assert isinstance(sent.error, fdn.Unreachable)
    assert sent.error.facts["maybe_carried_out"] is True
    assert "was lost before it answered a" in str(sent.error)
    assert not unsent.over
    assert Dial("coordination", "tcp://n2:1") in world.effects()
    world.hear("coordination", welcome())
    assert ("data" in [channel for channel, _ in world.dialled()]) is True
    world.hear("data", welcome())
    assert [each.to for each in world.sent("data") if each.kind != Kind.HELLO] == ["b", "c"]


def test_without_reconnecting_everything_fails():
    world = World(reconnect=False)
    world.connect("data", "events")
    service, box = serve(world), Inbox("a", "", 5, None)
    call = pending(world)
    world.core.subscribe(box)
    world.lose("events")
    assert isinstance(call.error, fdn.Unreachable)
    assert call.error.facts["maybe_carried_out"] is False
    assert "while events were waited for" in str(box.error)
    assert isinstance(service.error, fdn.Unreachable)


def test_subscriptions_and_services_are_made_again(world: World):
    box = Inbox("a.>", "q", world.core.new_number(), 100)
    world.core.subscribe(box)
    [subscribe] = world.sent("events")
    assert (subscribe.kind, subscribe.to, subscribe.body) == (Kind.SUBSCRIBE, "a.>", {"queue": "q", "timeout_ms": 100})
    world.hear("events", (Kind.REPLY, "", box.number, 0, None, ["n3"]))
    service = serve(world, version="2", capabilities={"gpu", "cpu"})
    world.lose("coordination")
    assert not box.confirmed
    assert not service.confirmed
    world.hear("coordination", welcome())
    assert {channel for channel, _ in world.dialled()} == {"coordination", "data", "events"}
    world.hear("data", welcome())
    world.hear("events", welcome())
    again = [each for each in world.sent("events") if each.kind == Kind.SUBSCRIBE]
    assert [each.id for each in again] == [box.number]
    [offered] = [each for each in world.sent("data") if each.kind == Kind.SUBSCRIBE]
    assert offered.to == "x"
    assert offered.body == {"version": "2", "capabilities": ["cpu", "gpu"], "concurrency": 64}
    world.hear("events", (Kind.EVENT, "a.b", box.number, 0, {7: "n2-1"}, 5))
    assert box.take() == ("a.b", 5, "n2-1", -1, {}, False)


def test_events_that_may_be_lost_are_remembered(world: World):
    world.core.publish("a", NIL)
    world.sent("events")
    assert world.core.events_unconfirmed == 1
    world.lose("events")
    assert (world.core.events_unconfirmed, world.core.lost_events) == (0, True)


def test_events_that_were_not_sent_are_not_lost(world: World):
    world.core.publish("a", NIL)
    world.lose("events")
    assert not world.core.lost_events
    world.hear("coordination", welcome())
    world.hear("events", welcome())
    assert [each.to for each in world.sent("events")][-1] == "a"


# -- members


def test_the_other_members_are_asked_for_and_remembered():
    fresh = World("tcp://n1:1")
    fresh.core.connection.want("coordination", fresh.now)
    fresh.hear("coordination", welcome())
    _hello, asked = fresh.sent("coordination")
    assert (asked.kind, asked.to) == (Kind.CALL, MEMBERS)
    row = {"endpoints": {"coordination": "tcp://n9:1"}, "reachable": True, "state": "serving"}
    fresh.hear("coordination", (Kind.REPLY, "", asked.id, 0, None, [row]))
    assert fresh.core.connection.addresses.remembered == ("tcp://n9:1",)
    fresh.pass_time(60.0)
    assert [each.to for each in fresh.sent("coordination")] == [MEMBERS]
    fresh.lose("coordination")
    assert ("coordination", "tcp://n9:1") in fresh.dialled()


def test_without_reconnecting_nobody_is_asked():
    world = World(reconnect=False)
    world.core.connection.want("coordination", world.now)
    world.hear("coordination", welcome())
    assert kinds(world.sent("coordination")) == [Kind.HELLO]
    assert world.core.next_deadline() is None


# -- subscriptions


def test_events_go_where_they_belong(world: World):
    boxes = [Inbox("a", "", world.core.new_number(), None) for _ in range(2)]
    for box in boxes:
        world.core.subscribe(box)
    world.hear("events", (Kind.EVENT, "a", boxes[1].number, 0, {14: 2, 17: 3}, 1), (Kind.EVENT, "a", 7, 0, None, 2))
    assert [len(box) for box in boxes] == [0, 1]
    assert boxes[1].take() == ("a", 1, "", 3, {}, True)
    world.hear("events", (Kind.ERROR, "", boxes[0].number, 0, None, {"code": "overloaded", "message": "too slow"}))
    assert isinstance(boxes[0].error, fdn.Overloaded)
    world.sent("events")
    world.core.unsubscribe(boxes[0])
    assert world.sent("events") == [], "the node has ended it itself"
    world.core.unsubscribe(boxes[1])
    world.core.unsubscribe(boxes[1])
    assert [(each.kind, each.id) for each in world.sent("events")] == [(Kind.UNSUBSCRIBE, boxes[1].number)]


# -- services


def call_in(
    world: World, number: int, to: str = "x", body: Any = None, meta: Any = None, kind: int = Kind.CALL
) -> None:
    world.hear("data", (kind, to, number, 3000, meta, body))


def test_a_call_is_run_and_answered(world: World):
    service = serve(world)
    call_in(world, 5, body={"a": 1}, meta={7: "n2-1", 11: {"h": "1"}})
    [job] = jobs(world)
    assert (job.payload, job.caller, job.headers, service.running) == ({"a": 1}, "n2-1", {"h": "1"}, 1)
    world.core.reply(job, 7, world.now)
    world.core.fail(job, ValueError("late"), world.now)
    assert [(each.kind, each.id, each.body) for each in world.sent("data")] == [(Kind.REPLY, 5, 7)]
    assert service.running == 0


def test_what_the_handler_raises_and_what_cannot_be_sent(world: World):
    serve(world)
    call_in(world, 5)
    call_in(world, 6)
    first, second = jobs(world)
    world.core.fail(first, fdn.NotFound("no such order"), world.now)
    world.core.reply(second, object(), world.now)
    bodies = [each.body["code"] for each in world.sent("data")]
    assert bodies == ["not_found", "bad_request"]


def test_a_cast_is_run_and_not_answered(world: World):
    service = serve(world)
    call_in(world, 0, kind=Kind.CAST)
    [job] = jobs(world)
    world.core.reply(job, 7, world.now)
    assert world.sent("data") == []
    assert service.running == 0


def test_a_streamed_reply_keeps_to_its_window_and_ends(world: World):
    serve(world)
    call_in(world, 5, meta={18: [2, 100]})
    [job] = jobs(world)
    for number in range(2):
        world.core.reply_item(job, encode(number))
    assert not job.reply.may_send
    world.hear("data", (Kind.CREDIT, "reply", 5, 0, None, [3, 100]))
    assert job.reply.may_send
    world.core.end_reply(job, world.now)
    assert kinds(world.sent("data")) == [Kind.ITEM, Kind.ITEM, Kind.END]


def test_a_stream_that_fails_behind_items_ends_with_the_error(world: World):
    serve(world)
    call_in(world, 5)
    call_in(world, 6)
    begun, not_begun = jobs(world)
    world.core.reply_item(begun, encode(1))
    world.core.fail(begun, fdn.Denied("no"), world.now)
    world.core.fail(not_begun, fdn.Denied("no"), world.now)
    found = world.sent("data")
    assert [(each.kind, each.id) for each in found] == [(Kind.ERROR, 6), (Kind.ITEM, 5), (Kind.END, 5)]
    assert found[-1].body["code"] == "denied"


def test_a_call_that_nobody_waits_for_any_more(world: World):
    service = serve(world)
    call_in(world, 5)
    [job] = jobs(world)
    world.hear("data", (Kind.CANCEL, "", 5))
    assert world.effects() == [Stop(job)]
    assert job.over
    world.core.reply(job, 1, world.now)
    assert world.sent("data") == []
    assert service.running == 0


def test_jobs_of_a_lost_connection_are_stopped_and_their_answers_dropped(world: World):
    service = serve(world)
    call_in(world, 5)
    [job] = jobs(world)
    world.lose("data")
    assert Stop(job) in world.effects()
    world.connect("data")
    world.core.reply(job, 1, world.now)
    assert Kind.REPLY not in kinds(world.sent("data"))
    assert service.running == 0
    call_in(world, 5)
    assert len(jobs(world)) == 1


def test_a_request_stream_is_granted_when_the_handler_is_ready(world: World):
    serve(world, takes_items=True)
    call_in(world, 5, meta={19: True})
    [job] = jobs(world)
    assert world.sent("data") == []
    world.core.begin_items(job)
    [credit] = world.sent("data")
    assert (credit.kind, credit.to, credit.id, credit.body) == (Kind.CREDIT, "request", 5, [256, 1024 * 1024])
    world.hear("data", *((Kind.ITEM, "request", 5, 0, None, n) for n in range(128)), (Kind.END, "request", 5))
    assert job.request is not None
    assert [world.core.take_request(job) for _ in range(128)] == list(range(128))
    assert job.request.ended


def test_more_items_than_were_asked_for(world: World):
    serve(world, takes_items=True)
    call_in(world, 5, meta={19: True})
    [job] = jobs(world)
    world.hear("data", (Kind.ITEM, "request", 5, 0, None, 1))
    [error] = world.sent("data")
    assert (error.kind, error.body["code"]) == (Kind.ERROR, "bad_request")
    assert world.effects() == [Stop(job)]


def test_calls_that_do_not_fit(world: World):
    serve(world)
    call_in(world, 5, to="y")
    call_in(world, 6, meta={19: True})
    call_in(world, 0, to="y", kind=Kind.CAST)
    assert [(each.id, each.body["code"]) for each in world.sent("data")] == [(5, "not_found"), (6, "bad_request")]
    assert jobs(world) == []


def test_more_than_can_wait(world: World):
    service = serve(world, concurrency=1)
    for number in range(1, 1 + 1 + 1024 + 1):
        call_in(world, number)
    call_in(world, 0, kind=Kind.CAST)
    assert len(jobs(world)) == 1
    assert [(each.id, each.body["code"]) for each in world.sent("data")] == [(1026, "overloaded")]
    assert service.dropped == 1


def test_a_name_is_served_once_and_withdrawn(world: World):
    service = serve(world)
    with pytest.raises(fdn.Conflict):
        world.core.serve(Service("x", 5))
    world.core.withdraw(service)
    world.core.withdraw(service)
    assert service.withdrawn
    assert [(each.kind, each.id) for each in world.sent("data")] == [(Kind.UNSUBSCRIBE, service.number)]
    other = serve(world)
    world.hear("data", (Kind.ERROR, "", other.number, 0, None, {"code": "conflict", "message": "taken"}))
    assert isinstance(other.error, fdn.Conflict)
    world.core.withdraw(other)
    assert not other.withdrawn


# -- the end


def test_closing_fails_what_waits_and_can_be_used_again(world: World):
    call, box, service = pending(world), Inbox("a", "", 5, None), serve(world)
    world.core.subscribe(box)
    world.core.close()
    assert "closed" in str(call.error)
    assert box.closed
    assert service.error is not None
    assert set(world.hung()) == {"coordination", "data", "events"}
    assert world.core.next_deadline() is None
    world.connect("data")
    again = pending(world)
    world.sent("data")
    world.hear("data", (Kind.REPLY, "", again.number, 0, None, 1))
    assert again.result() == 1


# -- a node that drains


def drains(world: World) -> None:
    world.hear("coordination", (Kind.CORE, "fdn.draining", 0, 0, None, None))


def test_a_client_leaves_a_node_that_drains_once_it_has_its_answers(world: World):
    first = pending(world)
    world.sent("data")
    drains(world)
    later = pending(world)
    assert world.sent("data") == [], "nothing new begins there"
    assert not world.hung()
    world.hear("data", (Kind.REPLY, "", first.number, 0, None, 1))
    assert first.result() == 1
    world.core.tick(world.now)
    effects = world.effects()
    farewells = [effect for effect in effects if isinstance(effect, Hang)]
    assert {effect.channel for effect in farewells} == {"coordination", "data", "events"}
    assert all(effect.farewell for effect in farewells), "it says goodbye"
    assert [effect.endpoint for effect in effects if isinstance(effect, Dial)] == ["tcp://n2:1"]
    assert not later.over, "it waits for the next node"


def test_what_takes_its_time_does_not_keep_new_work_back_for_long(world: World):
    pending(world)
    world.sent("data")
    drains(world)
    later = pending(world)
    world.pass_time(1.1)
    assert [each.id for each in world.sent("data")] == [later.number]
    assert not world.hung()


def test_a_client_that_serves_finishes_its_jobs_before_it_leaves(world: World):
    serve(world)
    world.hear("data", (Kind.CALL, "x", 7, 0, None, None))
    [job] = jobs(world)
    drains(world)
    assert not world.hung()
    world.core.reply(job, 5, world.now)
    world.core.tick(world.now)
    world.sent("data")
    assert "data" in world.hung()


def test_a_client_without_another_address_stays():
    world = World("tcp://n1:1")
    world.connect("data")
    drains(world)
    call = pending(world)
    assert [each.id for each in world.sent("data")] == [call.number]
    assert not world.hung()

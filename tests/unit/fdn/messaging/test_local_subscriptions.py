import asyncio
import collections
from typing import Any

import msgspec
import pytest

from fdn.messaging.event_queue import Delivery, Policy
from fdn.messaging.local_subscriptions import LocalSubscriptions
from fdn.messaging.offers import Interest
from fdn.messaging.subscriptions import Subscription
from fdn.runtime.data_plane import NoTicket
from tests.unit.fdn.harness import virtual
from transports.wire.envelope import Envelope, Kind


async def no_wait(subscription: Any) -> None:
    pass


def subscription(pattern: str, queue: str = "", policy: Policy = Policy.WAIT, events_max: int = 1) -> Subscription[Any]:
    return Subscription(
        pattern,
        queue=queue,
        policy=policy,
        events_max=events_max,
        bytes_max=1000,
        decoder=msgspec.msgpack.Decoder(),
        loop=asyncio.get_running_loop(),
        detach=lambda subscription: None,
        withdraw=no_wait,
    )


def fill(of: Subscription[Any]) -> None:
    body = msgspec.Raw(msgspec.msgpack.encode(1))
    of.deliver(Delivery(Envelope(Kind.EVENT, "a", body=body), "n1"), NoTicket())


@virtual
async def test_who_gets_what():
    ours = LocalSubscriptions()
    plain, wide, worker, other = [subscription(*args) for args in (("a.b",), ("a.>",), ("a.*", "q"), ("a.b", "r"))]
    for each in (plain, wide, worker, other):
        ours.add(each)
    local = ours.match("a.b")
    assert set(local.plain) == {plain, wide}
    assert {name: turns.next() for name, turns in local.groups.items()} == {"q": worker, "r": other}
    assert ours.by_subject["a.b"] is local
    assert ours.match("b").plain == ()


@virtual
async def test_what_the_cluster_is_told_changes_with_the_first_and_the_last():
    ours = LocalSubscriptions()
    first, second, other = subscription("a"), subscription("a"), subscription("a", "q")
    assert [ours.add(each) for each in (first, second, other)] == [True, False, True]
    assert ours.interests() == (Interest("a"), Interest("a", "q"))
    assert [ours.discard(first), ours.discard(first), ours.discard(second)] == [False, False, True]
    assert ours.interests() == (Interest("a", "q"),)
    assert (len(ours), list(ours)) == (1, [other])


@virtual
async def test_withdrawn_it_gets_what_still_comes():
    ours = LocalSubscriptions()
    leaving = subscription("a")
    ours.add(leaving)
    assert ours.withdraw(leaving)
    assert not ours.withdraw(leaving)
    assert ours.interests() == ()
    assert ours.match("a").plain == (leaving,)
    assert not ours.discard(leaving)
    assert ours.match("a").plain == ()


@virtual
async def test_turns_are_fair_over_subjects_and_over_changes():
    ours = LocalSubscriptions()
    members = [subscription("a.*", "q") for _ in range(3)]
    for each in members:
        ours.add(each)
    picked = collections.Counter(ours.match(f"a.{number}").groups["q"].next() for number in range(300))
    assert [picked[each] for each in members] == [100, 100, 100]
    picked.clear()
    for _ in range(300):
        ours.add(passing := subscription("b"))
        picked[ours.match("a.b").groups["q"].next()] += 1
        ours.discard(passing)
    assert [picked[each] for each in members] == [100, 100, 100]


@pytest.mark.parametrize("policy", Policy)
@virtual
async def test_a_member_whose_queue_is_full_is_passed_over(policy: Policy):
    ours = LocalSubscriptions()
    slow, other = subscription("a", "q", policy), subscription("a", "q", policy, events_max=100)
    ours.add(slow)
    ours.add(other)
    fill(slow)
    turns = ours.match("a").groups["q"]
    assert {turns.next() for _ in range(10)} == {other}
    for _ in range(100):
        fill(other)
    assert not turns.has_room
    assert {turns.next() for _ in range(10)} == {slow, other}


@virtual
async def test_what_was_counted_is_kept_when_it_is_closed():
    ours = LocalSubscriptions()
    dropping, other = subscription("a", policy=Policy.DROP_OLDEST), subscription("a")
    for each in (dropping, other):
        ours.add(each)
        each.failed = 1
    fill(dropping)
    fill(dropping)
    ours.discard(dropping)
    assert ours.counts() == (1, 2, 0)


@virtual
async def test_many_subjects_are_not_remembered_for_ever():
    ours = LocalSubscriptions()
    ours.add(subscription(">"))
    for number in range(10_000):
        ours.match(f"a.{number}")
    assert len(ours.by_subject) <= 4096

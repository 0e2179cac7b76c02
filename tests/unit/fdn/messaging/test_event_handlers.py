import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import fdn
from fdn.context import current_scope
from fdn.messaging.event_handlers import HandledSubscription, OrderedBy
from fdn.messaging.event_queue import Delivery, Policy
from fdn.messaging.interceptors import Dispatch, Incoming
from fdn.runtime.data_plane import NoTicket, Ticket
from tests.unit.fdn.harness import until, virtual
from transports.wire.envelope import Envelope, Kind, MetaKey

NO_TICKET = NoTicket()


async def no_wait(subscription: Any) -> None:
    pass


TRACE = {MetaKey.TRACE: [b"t" * 16, b"s" * 8, 1]}


class Order(msgspec.Struct):
    items: int


def handled(
    handler: Callable[..., Any],
    policy: Policy = Policy.WAIT,
    events_max: int = 100,
    concurrency: int = 1,
    intercept: Dispatch | None = None,
    ordered_by: OrderedBy | None = None,
) -> HandledSubscription:
    return HandledSubscription(
        "orders.>",
        handler,
        queue="",
        policy=policy,
        events_max=events_max,
        bytes_max=100_000,
        concurrency=concurrency,
        ordered_by=ordered_by,
        node_name="n1",
        intercept=intercept,
        loop=asyncio.get_running_loop(),
        detach=lambda subscription: None,
        withdraw=no_wait,
    )


class Counting:
    held = 0

    def release(self) -> None:
        self.held -= 1


def deliver(
    to: HandledSubscription, payload: Any, meta: Any = None, deadline_at: float = 0.0, ticket: Ticket = NO_TICKET
) -> None:
    body = msgspec.Raw(msgspec.msgpack.encode(payload))
    to.deliver(Delivery(Envelope(Kind.EVENT, "orders.eu", meta=meta, body=body), "n2-id", deadline_at), ticket)


@virtual
async def test_a_plain_function_runs_where_the_event_arrives():
    seen: list[Order] = []

    def on_order(order: Order) -> None:
        seen.append(order)

    ours = handled(on_order)
    deliver(ours, {"items": 1})
    assert seen == [Order(1)]
    assert not ours.busy


@virtual
async def test_a_coroutine_runs_one_event_after_the_other():
    seen: list[Any] = []

    async def on_order(order: Order) -> None:
        seen.append(("begun", order.items))
        await asyncio.sleep(1)
        seen.append(("ended", order.items))

    ours = handled(on_order)
    for number in range(3):
        deliver(ours, Order(number))
    assert ours.busy
    await ours.wait_idle()
    assert seen == [(what, number) for number in range(3) for what in ("begun", "ended")]
    await ours.close()


@virtual
async def test_concurrency():
    running = most = 0

    async def on_order(order: Order) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    ours = handled(on_order, concurrency=3)
    for number in range(7):
        deliver(ours, Order(number))
    await ours.wait_idle()
    assert most == 3
    await ours.close()


@virtual
async def test_the_context_tells_the_subject_and_the_scope_is_the_publishers():
    seen: list[Any] = []

    async def on_order(order: Order, context: fdn.Context) -> None:
        seen.append((order, context, current_scope()))

    def on_order_at_once(order: Order, context: fdn.Context) -> None:
        seen.append((order, context, current_scope()))

    until_ = asyncio.get_running_loop().time() + 5
    for handler in (on_order, on_order_at_once):
        ours = handled(handler)
        deliver(ours, Order(1), TRACE, until_)
        await ours.wait_idle()
        order, context, scope = seen.pop()
        assert order == Order(1)
        assert (context.node, context.caller, context.target) == ("n1", "n2-id", "orders.eu")
        assert (context.trace_id, context.deadline_at) == ((b"t" * 16).hex(), until_)
        assert (scope.trace_id, scope.deadline_at) == (b"t" * 16, until_)
        await ours.close()
    assert current_scope() is None


@virtual
async def test_arguments_as_a_services_handler_takes_them():
    seen: list[Any] = []

    async def nothing() -> None:
        seen.append(())

    async def several(a: int, b: int = 2) -> None:
        seen.append((a, b))

    for handler, payload in ((nothing, None), (several, {"a": 1}), (several, [3, 4])):
        ours = handled(handler)
        deliver(ours, payload)
        await ours.wait_idle()
        await ours.close()
    assert seen == [(), (1, 2), (3, 4)]


@virtual
async def test_failures_are_counted_and_told_and_end_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)

    async def later(order: Order) -> None:
        await asyncio.sleep(0)
        raise KeyError(order.items)

    def at_once(order: Order) -> None:
        raise KeyError(order.items)

    for handler in (later, at_once):
        ours = handled(handler)
        deliver(ours, {"items": 1})
        deliver(ours, {"items": 1}, TRACE)
        deliver(ours, "no order")
        deliver(ours, "no order", TRACE)
        await ours.wait_idle()
        assert ours.failed == 4
        await ours.close()
        assert "the last of orders.eu: Traceback" in caplog.text


@virtual
async def test_a_value_error_of_a_handler_is_not_taken_for_a_payload_that_does_not_fit(
    caplog: pytest.LogCaptureFixture,
):
    def picky(number: int) -> None:
        raise ValueError(f"{number} is unlucky")

    ours = handled(picky)
    deliver(ours, 13)
    assert ours.failed == 1
    assert "ValueError: 13 is unlucky" in caplog.text
    assert "does not fit" not in caplog.text
    await ours.close()


@virtual
async def test_a_deadline_drops_what_waits_and_cancels_what_runs():
    seen: list[Any] = []

    async def slow(number: int) -> None:
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            seen.append(number)
            raise

    ours = handled(slow)
    now = asyncio.get_running_loop().time()
    deliver(ours, 1, deadline_at=now + 1)
    deliver(ours, 2, deadline_at=now + 0.5)
    await ours.wait_idle()
    assert seen == [1]
    assert (ours.expired, ours.failed) == (2, 0)
    await ours.close()


@pytest.mark.parametrize("policy", [Policy.DROP_OLDEST, Policy.DROP_NEWEST])
@virtual
async def test_a_full_queue_drops_and_the_rest_is_handled(policy: Policy):
    seen: list[int] = []

    async def slow(number: int) -> None:
        seen.append(number)
        await asyncio.sleep(1)

    ours = handled(slow, policy, events_max=2)
    for burst in range(3):
        for number in range(10):
            deliver(ours, 10 * burst + number)
        await asyncio.sleep(0.5)
    await ours.wait_idle()
    assert len(seen) + ours.dropped == 30
    assert seen == sorted(seen)
    assert ours.pending == 0
    await ours.close()


@virtual
async def test_context_variables_of_one_event_are_not_those_of_the_next():
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def on_event(number: int) -> None:
        seen.append(variable.get())
        variable.set(number)

    ours = handled(on_event)
    for number in (1, 2, 3):
        deliver(ours, number)
    await ours.wait_idle()
    assert seen == [0, 0, 0]
    await ours.close()


@virtual
async def test_interceptors_are_around_every_handler():
    seen: list[Any] = []

    async def intercept(incoming: Incoming) -> Any:
        seen.append((incoming.target, incoming.arguments, incoming.is_call, incoming.is_event, incoming.context.target))
        result = incoming.handler(*incoming.arguments)
        return await result if asyncio.iscoroutine(result) else result

    async def later(number: int, context: fdn.Context) -> None:
        seen.append(context.target)

    def at_once(number: int) -> None:
        seen.append(number)

    for handler in (later, at_once):
        ours = handled(handler, intercept=intercept)
        deliver(ours, 7)
        await ours.wait_idle()
        await ours.close()
    told = ("orders.eu", (7,), False, True, "orders.eu")
    assert seen == [told, "orders.eu", told, 7]


@virtual
async def test_a_handler_may_close_its_own_subscription():
    seen: list[int] = []

    async def once(number: int) -> None:
        seen.append(number)
        await ours.close()
        await asyncio.sleep(1)
        seen.append(-number)

    ours = handled(once)
    deliver(ours, 1)
    deliver(ours, 2)
    await until(lambda: len(seen) == 2)
    await until(lambda: not ours._workers._tasks, "its workers end")
    assert seen == [1, -1]


@virtual
async def test_stopping_cancels_what_runs():
    seen: list[str] = []

    async def slow(number: int) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    ours = handled(slow)
    deliver(ours, 1)
    deliver(ours, 2)
    await asyncio.sleep(1)
    ours.end()
    await ours.cancel()
    assert seen == ["cancelled"]
    assert ours.failed == 0


@virtual
async def test_it_is_no_iterator():
    ours = handled(lambda number: None)
    with pytest.raises(TypeError, match="go to its handler"):
        aiter(ours)
    await ours.close()


@virtual
async def test_what_cannot_be():
    with pytest.raises(fdn.ConfigError, match="concurrency=0"):
        handled(lambda number: None, concurrency=0)
    with pytest.raises(fdn.ConfigError, match=r"handler of orders\.> cannot be served"):
        handled(lambda *numbers: None)


# -- order by key


class Paid(msgspec.Struct):
    customer: str
    number: int


@pytest.mark.parametrize("ordered_by", ["customer", lambda paid: paid.customer], ids=["name", "function"])
@virtual
async def test_events_of_one_key_stay_in_order_and_others_overtake_them(ordered_by: OrderedBy):
    running: set[str] = set()
    ended: list[tuple[str, int]] = []
    most = 0

    async def on_paid(paid: Paid) -> None:
        nonlocal most
        assert paid.customer not in running
        running.add(paid.customer)
        most = max(most, len(running))
        await asyncio.sleep(10 if paid.customer == "slow" else 1)
        running.remove(paid.customer)
        ended.append((paid.customer, paid.number))

    ours = handled(on_paid, concurrency=3, ordered_by=ordered_by)
    for number in range(4):
        for customer in ("slow", "a", "b"):
            deliver(ours, Paid(customer, number))
    await ours.wait_idle()
    assert most == 3
    for customer in ("slow", "a", "b"):
        assert [number for of, number in ended if of == customer] == [0, 1, 2, 3]
    assert [of for of, _ in ended[:8]].count("slow") == 0  # nobody waits for the slow one
    assert ours.pending == 0
    await ours.close()


@virtual
async def test_a_key_of_a_map_or_of_one_of_several_parameters():
    seen: list[Any] = []

    async def on_map(payload: dict[str, Any]) -> None:
        await asyncio.sleep(1 / (1 + payload["n"]))
        seen.append(payload["n"])

    async def on_two(key: str, n: int) -> None:
        await asyncio.sleep(1 / (1 + n))
        seen.append(n)

    for handler, name in ((on_map, "key"), (on_two, "key"), (on_map, "missing")):
        seen.clear()
        ours = handled(handler, concurrency=8, ordered_by=name)
        for number in range(8):
            deliver(ours, {"key": "k", "n": number})
        await ours.wait_idle()
        assert seen == list(range(8))
        await ours.close()
    with pytest.raises(fdn.ConfigError, match="takes key, n"):
        handled(on_two, concurrency=8, ordered_by="other")


@virtual
async def test_an_event_without_a_key_is_counted_and_holds_up_nobody(caplog: pytest.LogCaptureFixture):
    seen: list[Any] = []

    async def on_paid(paid: Paid) -> None:
        seen.append(paid.number)

    ours = handled(on_paid, concurrency=2, ordered_by="nothing")
    deliver(ours, Paid("a", 1))
    deliver(ours, {"no": "customer"})
    await ours.wait_idle()
    assert (seen, ours.failed) == ([], 2)
    assert "nothing" in caplog.text
    await ours.close()


@virtual
async def test_what_is_held_back_for_a_key_is_bounded_and_all_of_it_is_handled():
    seen: list[int] = []

    async def on_paid(paid: Paid) -> None:
        await asyncio.sleep(0.01)
        seen.append(paid.number)

    ours = handled(on_paid, concurrency=4, ordered_by="customer", events_max=10)
    tickets = [Counting() for _ in range(500)]
    for number, ticket in enumerate(tickets):
        deliver(ours, Paid("one", number), ticket=ticket)
    await asyncio.sleep(0)
    assert sum(ticket.held for ticket in tickets) >= 500 - 10 - 10 - 4
    await ours.wait_idle()
    assert seen == list(range(500))
    assert not any(ticket.held for ticket in tickets)
    await ours.close()


@virtual
async def test_closing_drops_what_is_held_back_for_a_key():
    seen: list[int] = []

    async def on_paid(paid: Paid) -> None:
        await asyncio.sleep(1)
        seen.append(paid.number)

    ours = handled(on_paid, concurrency=4, ordered_by="customer")
    for number in range(10):
        deliver(ours, Paid("one", number))
    await asyncio.sleep(0.5)
    await ours.close()
    await ours.wait_idle()
    assert seen == [0]


# -- what was dropped, and the end


@pytest.mark.parametrize(("policy", "missed"), [(Policy.DROP_OLDEST, {8: 7}), (Policy.DROP_NEWEST, {10: 7})])
@virtual
async def test_the_context_tells_what_was_dropped_before(policy: Policy, missed: dict[int, int]):
    found: dict[int, int] = {}
    seen: list[int] = []

    async def on_order(order: Order, context: fdn.Context) -> None:
        await asyncio.sleep(1)
        seen.append(order.items)
        if context.missed:
            found[order.items] = context.missed

    ours = handled(on_order, policy, events_max=2)
    for number in range(10):
        deliver(ours, Order(number))
        if number == 0:
            await asyncio.sleep(0.5)  # the first is being handled
    await asyncio.sleep(4)
    deliver(ours, Order(10))
    await ours.wait_idle()
    assert found == missed
    assert ours.dropped == 7
    assert len(seen) == 4
    await ours.close()


@virtual
async def test_drain_handles_what_has_come_and_takes_no_more():
    seen: list[int] = []

    async def on_order(order: Order) -> None:
        await asyncio.sleep(1)
        seen.append(order.items)

    ours = handled(on_order)
    for number in range(3):
        deliver(ours, Order(number))
    await ours.drain()
    assert seen == [0, 1, 2]
    deliver(ours, Order(3))
    assert ours.closed
    assert not ours.busy


@virtual
async def test_a_plain_function_does_not_get_what_has_expired():
    seen: list[Order] = []

    def on_order(order: Order) -> None:
        seen.append(order)

    ours = handled(on_order)
    deliver(ours, Order(1), deadline_at=asyncio.get_running_loop().time() - 1)
    assert (seen, ours.expired) == ([], 1)

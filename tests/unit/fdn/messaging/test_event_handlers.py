import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import fdn
from fdn.context import current_scope
from fdn.messaging.event_handlers import HandledSubscription
from fdn.messaging.event_queue import Delivery, Policy
from fdn.messaging.interceptors import Dispatch, Incoming
from fdn.runtime.data_plane import NoTicket
from tests.unit.fdn.harness import until, virtual
from transports.wire.envelope import Envelope, Kind, MetaKey

NO_TICKET = NoTicket()
TRACE = {MetaKey.TRACE: [b"t" * 16, b"s" * 8, 1]}


class Order(msgspec.Struct):
    items: int


def handled(
    handler: Callable[..., Any],
    policy: Policy = Policy.WAIT,
    events_max: int = 100,
    concurrency: int = 1,
    intercept: Dispatch | None = None,
) -> HandledSubscription:
    return HandledSubscription(
        "orders.>",
        handler,
        queue="",
        policy=policy,
        events_max=events_max,
        bytes_max=100_000,
        concurrency=concurrency,
        node_name="n1",
        intercept=intercept,
        loop=asyncio.get_running_loop(),
        detach=lambda subscription: None,
    )


def deliver(to: HandledSubscription, payload: Any, meta: Any = None, deadline_at: float = 0.0) -> None:
    body = msgspec.Raw(msgspec.msgpack.encode(payload))
    to.deliver(Delivery(Envelope(Kind.EVENT, "orders.eu", meta=meta, body=body), "n2-id", deadline_at), NO_TICKET)


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

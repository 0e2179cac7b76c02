import asyncio
import contextvars

import msgspec
import pytest

from fdn.context import (
    DEADLINE_S_MAX,
    Context,
    Scope,
    current_scope,
    deadline,
    new_span,
    new_trace,
    pack_trace,
    scope_var,
    unpack_trace,
)
from tests.unit.fdn.harness import virtual


@virtual
async def test_deadlines_only_shrink():
    now = asyncio.get_running_loop().time()
    assert current_scope() is None
    with deadline(5.0):
        assert current_scope() == Scope(deadline_at=now + 5.0)
        with deadline(9.0):
            assert current_scope() == Scope(deadline_at=now + 5.0)
        with deadline(2.0):
            assert current_scope() == Scope(deadline_at=now + 2.0)
        assert current_scope() == Scope(deadline_at=now + 5.0)
    assert current_scope() is None


@virtual
async def test_a_deadline_keeps_the_trace():
    token = scope_var.set(Scope(b"t" * 16, b"s" * 8))
    with deadline(1.0):
        scope = current_scope()
        assert scope is not None
        assert (scope.trace_id, scope.span_id) == (b"t" * 16, b"s" * 8)
        assert scope.deadline_at > 0
    scope_var.reset(token)


@virtual
async def test_a_deadline_follows_into_tasks_and_ends_with_its_block():
    with deadline(1.0):
        task = asyncio.create_task(asyncio.to_thread(current_scope))
        inside = current_scope()
        copied = contextvars.copy_context()
    assert copied.run(current_scope) == inside
    assert current_scope() is None
    task.cancel()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), DEADLINE_S_MAX * 2])
def test_a_deadline_that_is_none(seconds: float):
    with pytest.raises(ValueError, match="expected seconds above 0"), deadline(seconds):
        pass


def test_ids_are_unique_and_as_long_as_w3c_says():
    assert {len(id_) for id_ in {new_trace() for _ in range(1000)}} == {16}
    assert len({new_trace() for _ in range(1000)}) == 1000
    assert {len(id_) for id_ in {new_span() for _ in range(1000)}} == {8}
    assert len({new_span() for _ in range(1000)}) == 1000


def test_a_trace_crosses_the_wire():
    trace, span = new_trace(), new_span()
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(pack_trace(trace, span)))
    assert crossed == [trace, span, 1]
    assert unpack_trace(crossed) == (trace, span)


NO_TRACES: list[object] = [
    None, b"", b"x" * 24, 7, {}, [], [1],
    [b"t" * 16, b"s" * 8], [b"t" * 15, b"s" * 8, 1], [b"t" * 16, b"s" * 9, 1], ["t" * 16, b"s" * 8, 1],
    [b"t" * 16, b"s" * 8, "1"],
]  # fmt: skip


@pytest.mark.parametrize("packed", NO_TRACES, ids=repr)
def test_what_is_no_trace_counts_as_none(packed: object):
    assert unpack_trace(packed) == (b"", b"")


@virtual
async def test_what_is_left_of_a_context():
    now = asyncio.get_running_loop().time()
    context = Context("n1", "n2-1", "math.add", "", "", now + 2.0)
    assert context.remaining_s() == pytest.approx(2.0)
    await asyncio.sleep(3.0)
    assert context.remaining_s() == pytest.approx(-1.0)

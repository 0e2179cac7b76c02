import asyncio
import contextvars
from typing import Any

import msgspec
import pytest

from fdn.context import (
    DEADLINE_S_MAX,
    HEADERS_BYTES_MAX,
    Context,
    Scope,
    current_meta,
    current_scope,
    deadline,
    headers,
    new_span,
    new_trace,
    pack_trace,
    scope_var,
    unpack_headers,
    unpack_trace,
)
from fdn.errors import BadRequest
from tests.unit.fdn.harness import virtual
from transports.wire.envelope import MetaKey


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


def test_headers_add_to_those_outside_and_leave_with_the_block():
    with headers({"tenant": "a", "locale": "de"}):
        with headers({"tenant": "b", "job": "7"}):
            scope = current_scope()
            assert scope is not None
            assert scope.headers == {"tenant": "b", "locale": "de", "job": "7"}
            assert current_meta()[MetaKey.HEADERS] == scope.headers
        scope = current_scope()
        assert scope is not None
        assert scope.headers == {"tenant": "a", "locale": "de"}
    assert current_scope() is None
    assert MetaKey.HEADERS not in current_meta()


@virtual
async def test_headers_keep_deadline_and_trace_and_they_keep_the_headers():
    token = scope_var.set(Scope(b"t" * 16, b"s" * 8))
    with headers({"a": "1"}), deadline(1.0), headers({"b": "2"}):
        scope = current_scope()
        assert scope is not None
        assert (scope.trace_id, scope.headers) == (b"t" * 16, {"a": "1", "b": "2"})
        assert scope.deadline_at == asyncio.get_running_loop().time() + 1.0
        assert current_meta()[MetaKey.TRACE][0] == b"t" * 16
    scope_var.reset(token)


@pytest.mark.parametrize("wrong", [{"a": 1}, {1: "a"}, {"a": None}, {"a": b"b"}, {"a": "\ud800"}, {"\ud800": "a"}])
def test_headers_are_text(wrong: Any):
    with pytest.raises(BadRequest, match="header"), headers(wrong):
        raise AssertionError
    assert current_scope() is None


def test_headers_have_a_bound_in_bytes_over_all():
    with headers({"a": "x" * (HEADERS_BYTES_MAX - 1)}):
        with pytest.raises(BadRequest, match=f"headers of {HEADERS_BYTES_MAX + 1} bytes; at most"), headers({"b": ""}):
            raise AssertionError
        with headers({"a": "short"}), headers({"b": "ä" * 4000}):
            pass


@pytest.mark.parametrize(
    ("packed", "unpacked"),
    [
        ({"a": "b"}, {"a": "b"}),
        ({}, None),
        (None, None),
        ([["a", "b"]], None),
        ({"a": 1}, None),
        ({1: "a"}, None),
        ({"a": "x" * HEADERS_BYTES_MAX}, None),
    ],
)
def test_headers_off_the_wire(packed: Any, unpacked: Any):
    assert unpack_headers(packed) == unpacked

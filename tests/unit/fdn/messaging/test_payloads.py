import collections.abc
import dataclasses
import typing
from typing import Annotated, Any

import msgspec
import pytest

from fdn.context import Context
from fdn.errors import BadRequest, ConfigError
from fdn.messaging.payloads import Signature, decode, does_not_fit, encode, signature_of, wire


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Order(msgspec.Struct):
    id: int
    tags: list[str] = []


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def arguments(function: Any, value: object) -> tuple[Any, ...]:
    return signature_of("s.f", function).arguments(raw(value))


@pytest.mark.parametrize("value", [None, b"", b"abc"])
def test_bytes_and_none_stay_what_they_are(value: object):
    assert encode(value) is value


@pytest.mark.parametrize("value", [1, "ä", [1, {"a": None}], Point(1), Order(2), {1, 2}, (1,), 2**64 - 1, float("inf")])
def test_there_and_back(value: Any):
    back = decode(wire(encode(value)), msgspec.msgpack.Decoder(type(value)))
    assert back == value


def test_later_changes_do_not_show():
    value = [1]
    body = encode(value)
    value.append(2)
    assert decode(body) == [1]


@pytest.mark.parametrize("value", [object(), 2**64, {object(): 1}, lambda: None, "\ud800"])
def test_what_cannot_be_sent(value: object):
    with pytest.raises(BadRequest, match="cannot be sent"):
        encode(value)


def test_what_refers_to_itself_cannot_be_sent():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BadRequest, match="cannot be sent"):
        encode(loop)


@pytest.mark.parametrize("encoded", [b"\xc1", b"\xa1\xff", b"\x92\x01", b"\x91" * 5000, b"\x81\x80\x01", b""])
def test_garbage_is_a_bad_request(encoded: bytes):
    with pytest.raises(BadRequest, match="does not fit"):
        decode(msgspec.Raw(encoded))


def test_a_misfit_says_what_was_expected():
    assert "expected" not in str(does_not_fit(ValueError("boom")))
    with pytest.raises(BadRequest, match="Expected `int`, got `str`"):
        decode(raw("x"), msgspec.msgpack.Decoder(int))


# -- signatures


def test_one_parameter_is_the_body():
    def typed(order: Order) -> None: ...
    def plain(value) -> None: ...

    assert arguments(typed, {"id": 1}) == (Order(1),)
    assert arguments(plain, {"id": 1}) == ({"id": 1},)
    with pytest.raises(BadRequest, match="missing required field `id`"):
        arguments(typed, {})


def test_one_parameter_with_a_default_may_be_left_out():
    def f(n: int = 7) -> None: ...

    assert arguments(f, None) == ()
    assert arguments(f, 3) == (3,)
    assert signature_of("f", f).single is None


def test_no_parameter_takes_no_body():
    def f() -> None: ...

    assert arguments(f, None) == ()
    with pytest.raises(BadRequest, match=r"s\.f takes no payload"):
        arguments(f, 1)


def test_several_parameters_by_name_and_by_position():
    def f(a: int, point: Point, c: str = "c") -> None: ...

    assert arguments(f, {"a": 1, "point": {"x": 2}}) == (1, Point(2), "c")
    assert arguments(f, [1, {"x": 2, "y": 3}, "d"]) == (1, Point(2, 3), "d")
    assert arguments(f, [1, {"x": 2}]) == (1, Point(2), "c")
    assert arguments(f, {"a": 1, "point": {"x": 2}, "unknown": 5})[0] == 1
    for misfit in ({"a": 1}, [1], {"a": "1", "point": {"x": 2}}, 5, "text", None):
        with pytest.raises(BadRequest):
            arguments(f, misfit)


@pytest.mark.parametrize("count", [15, 16, 70000])
def test_long_arrays_are_arrays_too(count: int):
    def f(a: int, b: int = 0) -> None: ...

    assert arguments(f, [1] * count) == (1, 1)


def test_constraints_in_annotations_hold():
    def f(n: Annotated[int, msgspec.Meta(ge=0)]) -> None: ...

    assert arguments(f, 1) == (1,)
    with pytest.raises(BadRequest, match=">= 0"):
        arguments(f, -1)


@pytest.mark.parametrize("annotation", [Context, Context | None])
def test_the_context_takes_no_part(annotation: Any):
    def f(n: int, context: Any) -> None: ...

    f.__annotations__["context"] = annotation
    signature = signature_of("f", f)
    assert signature.context_name == "context"
    assert signature.arguments(raw(5)) == (5,)


def test_a_peer_cannot_send_a_context():
    def f(context: Context) -> None: ...

    with pytest.raises(BadRequest, match="takes no payload"):
        arguments(f, {"node": "n1", "caller": "c", "target": "t", "trace_id": "", "span_id": "", "deadline_at": 1.0})


def test_a_context_may_stand_anywhere():
    def first(context: str, a: int, b: int) -> tuple[Any, ...]:
        return context, a, b

    def middle(a: int, context: str, b: int = 2) -> tuple[Any, ...]:
        return context, a, b

    def named(a: int, b: int, *, context: str) -> tuple[Any, ...]:
        return context, a, b

    for function in (first, middle, named):
        function.__annotations__["context"] = Context
        signature = signature_of("f", function)
        call = signature.adapt(function)
        assert call(*signature.arguments(raw([1, 2])), context="it") == ("it", 1, 2)


def test_keyword_only_parameters_are_given_by_keyword():
    def f(a: int, *, b: int = 5) -> tuple[int, int]:
        return a, b

    signature = signature_of("f", f)
    assert signature.adapt(f)(*signature.arguments(raw({"a": 1, "b": 2}))) == (1, 2)
    assert signature.adapt(f)(*signature.arguments(raw({"a": 1}))) == (1, 5)


def test_ordinary_handlers_are_called_directly():
    def f(a: int, context: Context) -> None: ...

    assert signature_of("f", f).adapt(f) is f


def test_bound_methods_have_no_self():
    class Service:
        def add(self, a: int, b: int) -> int:
            return a + b

    assert signature_of("s.add", Service().add).arguments(raw([1, 2])) == (1, 2)


def test_what_cannot_be_served():
    def many(*values: int) -> None: ...
    def named(**values: int) -> None: ...
    def unknown(value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def mutable(a: int, b: list[int] = [1]) -> None: ...  # noqa: B006
    def positional(context: Context, /, a: int) -> None: ...

    for function in (many, named, unknown, mutable, positional):
        with pytest.raises(ConfigError, match="cannot be served"):
            signature_of("s.f", function)


def test_the_hot_path_has_its_decoder():
    def f(order: Order) -> None: ...

    signature: Signature = signature_of("f", f)
    assert signature.single is not None
    assert signature.single.decode(raw({"id": 1})) == Order(1)


@pytest.mark.parametrize(
    "annotation",
    [
        collections.abc.AsyncIterator[int],
        collections.abc.AsyncIterable[int],
        typing.AsyncIterator[int],
        collections.abc.AsyncIterator,
        collections.abc.AsyncIterator[Any],
    ],
)
def test_the_request_stream_takes_no_part_and_its_items_have_a_type(annotation: Any):
    async def f(n: int, items: Any, context: Context) -> None: ...

    f.__annotations__["items"] = annotation
    signature = signature_of("f", f)
    assert (signature.stream_name, signature.context_name) == ("items", "context")
    assert signature.arguments(raw(5)) == (5,)
    if "int" in str(annotation):
        with pytest.raises(BadRequest):
            decode(raw("text"), signature.stream_decoder)
    else:
        assert decode(raw("text"), signature.stream_decoder) == "text"


def test_a_request_stream_may_stand_anywhere_and_there_is_one():
    async def first(items: collections.abc.AsyncIterator[int], a: int, b: int) -> Any:
        return items, a, b

    signature = signature_of("f", first)
    coroutine = signature.adapt(first)(*signature.arguments(raw([1, 2])), items="them")
    with pytest.raises(StopIteration) as returned:
        coroutine.send(None)
    assert returned.value.value == ("them", 1, 2)

    async def two(a: collections.abc.AsyncIterator[int], b: collections.abc.AsyncIterator[int]) -> None: ...

    async def positional(items: collections.abc.AsyncIterator[int], /) -> None: ...

    for function, why in ((two, "takes 2 request streams"), (positional, "cannot be given by keyword")):
        with pytest.raises(ConfigError, match=why):
            signature_of("f", function)

import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import pytest

import fdn
from fdn.errors import ConfigError
from fdn.messaging.proxy import make_proxy
from tests.unit.fdn.harness import World, virtual


class Add(msgspec.Struct):
    a: int
    b: int


@runtime_checkable
class Math(Protocol):
    async def add(self, request: Add) -> int: ...
    async def scale(self, value: float, by: float = 2.0, *, shift: float = 0.0) -> float: ...
    async def swap(self, one: int, two: str, /) -> list[Any]: ...
    async def reset(self) -> None: ...
    async def last(self, default: int = 7) -> int: ...
    def countdown(self, n: int) -> AsyncIterator[int]: ...
    async def countdown_too(self, n: int) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterable[int], start: int = 0) -> int: ...
    def doubled(self, numbers: AsyncIterator[int]) -> AsyncGenerator[int, None]: ...
    async def where(self, n: int, context: fdn.Context) -> str: ...


class MathService:
    async def add(self, request: Add) -> int:
        return request.a + request.b

    async def scale(self, value: float, by: float = 2.0, *, shift: float = 0.0) -> float:
        return value * by + shift

    async def swap(self, uno: int, due: str) -> list[Any]:
        return [due, uno]

    async def reset(self) -> None:
        pass

    async def last(self, default: int = 8) -> int:
        return default

    async def countdown(self, n: int) -> AsyncIterator[int]:
        while n:
            yield n
            n -= 1

    countdown_too = countdown

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        return start + sum([n async for n in numbers])

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for n in numbers:
            yield 2 * n

    async def where(self, n: int, context: fdn.Context) -> str:
        return f"{context.node}:{n}"


class Greet(Protocol):
    async def __call__(self, name: str) -> str: ...


def make_app() -> fdn.App:
    app = fdn.App()
    app.service("math")(MathService)

    @app.service("greet")
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    return app


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


@virtual
async def test_methods_are_called():
    async with World() as world:
        first, _ = await world.cluster(2, make_app())
        math = first.proxy(Math, "math@n2")
        assert await math.add(Add(2, 3)) == 5
        assert await math.add(request=Add(2, 3)) == 5
        assert [await math.scale(3.0), await math.scale(3.0, 3.0), await math.scale(by=4.0, value=3.0)] == [
            6.0,
            9.0,
            12.0,
        ]
        assert await math.scale(3.0, shift=1.0) == 7.0
        assert await math.swap(1, "a") == ["a", 1], "positional only: by position, whatever the names are there"
        assert await math.reset() is None  # type: ignore[func-returns-value]
        assert [await math.last(), await math.last(1)] == [8, 1], "what is left out takes the service's default"
        assert await math.where(1, None) == "n2:1"  # type: ignore[arg-type]  # whoever serves it makes its own
        assert await math.where(1) == "n2:1"  # type: ignore[call-arg]
        assert await first.proxy(Greet, "greet")("Ada") == "Hello, Ada!"


@virtual
async def test_streams():
    async with World() as world:
        first, _ = await world.cluster(2, make_app())
        math = first.proxy(Math, "math@n2")
        assert [n async for n in math.countdown(3)] == [3, 2, 1]
        assert [n async for n in await math.countdown_too(3)] == [3, 2, 1]
        assert [n async for n in math.countdown_too(2)] == [2, 1]  # type: ignore[attr-defined]  # as its author meant it
        async with math.countdown_too(1000) as opened:  # type: ignore[attr-defined]
            assert await anext(opened) == 1000
        assert await math.total(numbers(5)) == 10
        assert await math.total(numbers(5), 7) == 17
        assert [n async for n in math.doubled(numbers(3))] == [0, 2, 4]


class Heard:
    """In place of a node: what a proxy has asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call(self, target: str, payload: Any = None, **options: Any) -> Any:
        self.calls.append((target, payload, options))

    def stream(self, target: str, payload: Any = None, **options: Any) -> Any:
        self.calls.append((target, payload, options))


def test_options_and_types_are_handed_on():
    heard = Heard()
    math: Any = make_proxy(heard, Math, "a.math@n2", 3, 1.5)
    math.add(1)
    math.countdown(2)
    math.reset()
    assert heard.calls == [
        ("a.math.add@n2", 1, {"returns": int, "timeout": 1.5, "retry": 3, "items": None}),
        ("a.math.countdown@n2", 2, {"returns": int, "timeout": 1.5, "items": None}),
        ("a.math.reset@n2", None, {"returns": type(None), "timeout": 1.5, "retry": 3, "items": None}),
    ]


def test_it_is_an_object_like_any_other():
    assert isinstance(make_proxy(Heard(), Math, "math"), Math)
    math: Any = make_proxy(Heard(), Math, "math")
    assert repr(math) == "<proxy of service 'math' as Math>"
    with pytest.raises(AttributeError, match="has no method 'subtract'; it has add, scale"):
        math.subtract(1)
    with pytest.raises(TypeError, match=r"Math\.add\(\): missing a required argument: 'request'"):
        math.add()
    with pytest.raises(TypeError, match=r"Math\.reset\(\): too many positional arguments"):
        math.reset(1)
    with pytest.raises(TypeError, match="not callable"):
        math()


class Empty(Protocol):
    def _private(self) -> None: ...


class Plain(Protocol):
    def add(self, a: int) -> int: ...


class Attribute(Protocol):
    version: str

    async def add(self, a: int) -> int: ...


class Property(Protocol):
    @property
    def version(self) -> str: ...


class Rest(Protocol):
    async def add(self, *rest: int) -> int: ...


class File(Protocol):
    async def read(self, path: Path) -> bytes: ...


class Nested(Protocol):
    async def read(self) -> dict[str, list[Path | None]]: ...


class NestedItems(Protocol):
    def read(self) -> AsyncIterator[Path]: ...


class TwoStreams(Protocol):
    async def join(self, one: AsyncIterator[int], two: AsyncIterator[int]) -> int: ...


class Unknown(Protocol):
    async def add(self, a: "Missing") -> int: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (Empty, "Empty has no public method"),
        (Plain, r"Plain.add cannot be called from afar: it is a plain def"),
        (Attribute, "Attribute.version cannot .* it is no method"),
        (Property, "Property.version .* it is a property"),
        (Rest, r"it takes \*rest"),
        (File, "its parameter path is of type Path"),
        (Nested, "its result is of type Path"),
        (NestedItems, "its result is of type Path"),
        (TwoStreams, "two request streams"),
        (Unknown, "its annotations cannot be read"),
        (print, "is no class"),
    ],
)
def test_what_cannot_be_called_from_afar(protocol: Any, said: str):
    with pytest.raises(ConfigError, match=said):
        make_proxy(Heard(), protocol, "math")


@pytest.mark.parametrize("name", ["", "a b", "fdn.node", "@n1"])
def test_names_that_are_none(name: str):
    with pytest.raises(ConfigError, match="service name"):
        make_proxy(Heard(), Math, name)


TYPED = """
from collections.abc import AsyncIterator
from typing import Protocol
import fdn

class Math(Protocol):
    async def add(self, a: int, b: int) -> int: ...
    def countdown(self, n: int) -> AsyncIterator[int]: ...

async def use(node: fdn.Node) -> None:
    math = node.proxy(Math, "math", retry=fdn.Retry(3), timeout=1.0)
    reveal_type(math)
    reveal_type(await math.add(2, 3))
    async for n in math.countdown(3):
        reveal_type(n)
    await math.add(2, "3")
    await math.subtract(2, 3)
"""


@pytest.mark.slow
def test_it_is_typed(tmp_path: Path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(textwrap.dedent(TYPED))
    root = Path(fdn.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", str(snippet)],
        env={"MYPYPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    said = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(str(snippet))]
    assert said == [
        'note: Revealed type is "snippet.Math"',
        'note: Revealed type is "int"',
        'note: Revealed type is "int"',
        'error: Argument 2 to "add" of "Math" has incompatible type "str"; expected "int"  [arg-type]',
        'error: "Math" has no attribute "subtract"  [attr-defined]',
    ], done.stdout + done.stderr

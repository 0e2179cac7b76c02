"""What import contracts cannot see: a core draws chance from the Random it is handed, and opens nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = ROOT / "consensus" / "storage"  # the one that touches files, and no core imports it
CORES = sorted(
    path for room in ("topologies", "consensus") for path in (ROOT / room).rglob("*.py") if SHELL not in path.parents
)
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}


def impurities(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="random", names=names):
                yield from (f"line {node.lineno}: random.{it.name}" for it in names if it.name != "Random")
            case ast.Attribute(value=ast.Name(id="random"), attr=name) if name != "Random":
                yield f"line {node.lineno}: random.{name}"
            case ast.Call(func=ast.Attribute(attr="Random") | ast.Name(id="Random"), args=[], keywords=[]):
                yield f"line {node.lineno}: Random() without a seed"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                yield f"line {node.lineno}: {name}()"


@pytest.mark.parametrize("path", CORES, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_is_pure(path: Path):
    found = list(impurities(path.read_text(encoding="utf-8")))
    assert not found, "a core is handed a seeded random.Random, and leaves files and the terminal to its driver"


@pytest.mark.parametrize(
    "line",
    [
        "import random; random.random()",
        "import random; random.shuffle([])",
        "from random import choice",
        "import random; random.Random()",
        "random = object(); random.seed(1)",
        "open('/etc/hosts')",
        "print('hello')",
    ],
)
def test_impure_line_is_found(line: str):
    assert list(impurities(line))


@pytest.mark.parametrize(
    "line", ["import random\ndef f(chance: random.Random) -> float:\n    return chance.random()", "random.Random(7)"]
)
def test_pure_line_is_left_alone(line: str):
    assert not list(impurities(line))

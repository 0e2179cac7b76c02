"""The rooms are kept: every module says what it is, what it offers, and where it is tested."""

import ast
import importlib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("fdn", "transports", "topologies", "consensus")
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PUBLIC = [path for path in FILES if path.name == "__init__.py" or not path.name.startswith("_")]


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def mirror(path: Path) -> Path:
    return Path("tests/unit", path.parent, f"test_{path.name}")


def needs_test(path: Path) -> bool:
    """All but tables of contents, private modules, and protocols that hold no behaviour of their own."""
    if path.name.startswith("_"):
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    is_protocol = any(
        isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
        for node in tree.body
    )
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return not is_protocol or any(does_something(function) for function in functions)


def does_something(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not all(is_idle(line) for line in function.body)


def is_idle(line: ast.stmt) -> bool:
    match line:
        case ast.Expr(value=ast.Constant()):  # a docstring, or `...`
            return True
        case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"))], value=ast.Name()):  # keeps an argument
            return True
        case _:
            return False


@pytest.fixture(params=PUBLIC, ids=module_name)
def module(request: pytest.FixtureRequest) -> types.ModuleType:
    return importlib.import_module(module_name(request.param))


def test_module_has_a_docstring(module: types.ModuleType):
    assert module.__doc__, f"{module.__name__} does not say what it is"


def test_module_has_a_whole_all(module: types.ModuleType):
    names = module.__dict__.get("__all__")
    assert isinstance(names, tuple), f"{module.__name__}.__all__ must be a tuple, is {names!r}"
    assert len(set(names)) == len(names), f"{module.__name__}.__all__ names something twice"
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing, f"{module.__name__}.__all__ names what is not there: {missing}"


@pytest.mark.parametrize("path", [path for path in FILES if needs_test(path)], ids=module_name)
def test_module_has_its_test_file(path: Path):
    assert (ROOT / mirror(path)).is_file(), f"{path} is tested nowhere: expected {mirror(path)}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_folder_is_a_package(folder: Path):
    # A folder without __init__.py imports from a checkout, and is missing from the wheel.
    assert (ROOT / folder / "__init__.py").is_file()


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_typed(room: str):
    assert (ROOT / room / "py.typed").is_file()


def test_the_rule_for_test_files():
    assert mirror(Path("transports/wire/batch.py")) == Path("tests/unit/transports/wire/test_batch.py")
    assert not needs_test(Path("fdn/__init__.py"))
    assert not needs_test(Path("fdn/_guard.py"))
    assert not needs_test(Path("transports/transport.py"))
    assert needs_test(Path("transports/channel.py"))

"""Nothing is ever unpickled: what comes from the network is data, and never code (ecosystem: exact versions, RCE)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("fdn", "transports", "topologies", "consensus")
EXECUTES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_imports_what_executes_its_input(path: Path):
    assert not imported(path) & EXECUTES


def test_the_rule_sees_what_it_forbids(tmp_path: Path):
    for source in ("import pickle", "from pickle import loads", "def f():\n    import marshal, os"):
        (tmp_path / "planted.py").write_text(source)
        assert imported(tmp_path / "planted.py") & EXECUTES

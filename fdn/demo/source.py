"""What the demonstration works on: Python's own standard library, file by file, and what is known of one file.

All of it is plain functions, so that the nodes of a cluster and a single process do exactly the same.
"""

import ast
import itertools
import sysconfig
import warnings
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

__all__ = ("FILES_MAX", "FILE_BYTES_MAX", "Entry", "choose_files", "index_source", "library_root")

FILES_MAX: Final = 1200
# Parsing holds the GIL for about 0.5 us a byte: a larger file would stop its node's control plane for longer than a
# probe waits, and show the limits of a process with threads where the subject is a cluster.
FILE_BYTES_MAX: Final = 256 * 1024
_TEST_FOLDERS: Final = frozenset({"idle_test", "lib2to3", "test", "tests"})
_PACKAGE_FOLDERS: Final = frozenset({"dist-packages", "site-packages"})
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Entry(msgspec.Struct, frozen=True):
    """What the index knows of one file.

    Attributes:
        path: Relative to the library's root, with forward slashes.
        digest: BLAKE3 of the source, hex.
        size: Bytes of source.
        functions: Functions and methods defined.
        classes: Classes defined.
        imports: Import statements.
        names: What it defines, at any depth: each name once, sorted.
        error: Why it cannot be parsed, or empty. The library's tests hold such files on purpose.
    """

    path: str
    digest: str
    size: int
    functions: int = 0
    classes: int = 0
    imports: int = 0
    names: tuple[str, ...] = ()
    error: str = ""


def library_root() -> Path:
    """Where this Python keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def choose_files(root: Path, files_max: int = FILES_MAX) -> tuple[str, ...]:
    """The files to index, the same on every call: the library proper, then its tests, then installed packages.

    Some systems ship the library without its tests; it is then a few hundred files, and packages make up the number.

    Returns:
        Paths relative to `root`, sorted, at most `files_max`.
    """
    tiers: tuple[list[str], list[str], list[str]] = ([], [], [])
    for path in sorted(root.rglob("*.py")):
        if path.is_file() and path.stat().st_size <= FILE_BYTES_MAX:
            relative = path.relative_to(root)
            tiers[_tier(relative.parts[:-1])].append(relative.as_posix())
    return tuple(sorted(itertools.islice(itertools.chain(*tiers), files_max)))


def index_source(path: str, source: bytes) -> Entry:
    """Parse one file and count what it defines. Never raises for what is in it."""
    digest = blake3(source).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escape sequences in other people's code
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Entry(path, digest, len(source), error=f"{type(error).__name__}: {error}")
    nodes = list(ast.walk(tree))
    definitions = [node for node in nodes if isinstance(node, _DEFINITIONS)]
    classes = sum(isinstance(node, ast.ClassDef) for node in definitions)
    return Entry(
        path,
        digest,
        len(source),
        functions=len(definitions) - classes,
        classes=classes,
        imports=sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes),
        names=tuple(sorted({node.name for node in definitions})),
    )


def _tier(folders: tuple[str, ...]) -> int:
    if not _PACKAGE_FOLDERS.isdisjoint(folders):
        return 2
    return 0 if _TEST_FOLDERS.isdisjoint(folders) else 1

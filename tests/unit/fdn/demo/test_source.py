import hashlib
from pathlib import Path

import pytest
from blake3 import blake3

from fdn.demo.source import FILE_BYTES_MAX, Entry, choose_files, index_source, library_root

SOURCE = b"""
import os
from sys import path

class Shape:
    def area(self): ...
    async def load(self): ...

def area(): ...
"""


def test_counts_and_names_of_a_file():
    entry = index_source("shape.py", SOURCE)
    assert entry == Entry(
        "shape.py",
        blake3(SOURCE).hexdigest(),
        len(SOURCE),
        functions=3,
        classes=1,
        imports=2,
        names=("Shape", "area", "load"),
    )


@pytest.mark.parametrize("source", [b"def (", b"\x00", b"# coding: nonsense\n", b"x = " + b"(" * 5000])
def test_a_file_that_cannot_be_parsed_is_an_entry_with_the_reason(source: bytes):
    entry = index_source("bad.py", source)
    assert entry.error
    assert (entry.digest, entry.names) == (blake3(source).hexdigest(), ())


def test_old_escape_sequences_in_other_peoples_code_are_no_news():
    assert index_source("old.py", b"x = '\\d'\n").error == ""


def touch(root: Path, path: str, size: int = 1) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"#" * size)


def test_the_library_comes_before_its_tests_and_those_before_packages(tmp_path: Path):
    for path in ("site-packages/a.py", "test/b.py", "z.py", "json/y.py", "json/tests/c.py", "notes.txt"):
        touch(tmp_path, path)
    assert choose_files(tmp_path, 2) == ("json/y.py", "z.py")
    assert choose_files(tmp_path, 4) == ("json/tests/c.py", "json/y.py", "test/b.py", "z.py")
    assert choose_files(tmp_path) == ("json/tests/c.py", "json/y.py", "site-packages/a.py", "test/b.py", "z.py")


def test_a_file_that_would_hold_the_gil_for_long_is_left_out(tmp_path: Path):
    touch(tmp_path, "large.py", FILE_BYTES_MAX + 1)
    touch(tmp_path, "small.py", FILE_BYTES_MAX)
    assert choose_files(tmp_path) == ("small.py",)


def test_the_library_of_this_python():
    root = library_root()
    assert (root / "ast.py").is_file()
    digest = index_source("ast.py", (root / "ast.py").read_bytes()).digest
    assert len(bytes.fromhex(digest)) == hashlib.sha256().digest_size

"""The programs in the documents are well typed: mypy, strict, as a user's editor would see them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import DOCUMENTS, ROOT, blocks, name_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WITH_PROGRAMS = [
    document
    for document in DOCUMENTS
    if "spec" not in document.parts  # written for every language, not for Python's types
    and any(block.language == "python" and block.mark in ("file", "program") for block in blocks(document))
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("document", WITH_PROGRAMS, ids=name_of)
def test_programs_are_well_typed(document: Path, tmp_path: Path, cache: Path):
    pytest.importorskip("mypy")
    files = []
    for block in blocks(document):
        if block.language == "python" and block.mark in ("file", "program"):
            name = block.name if block.mark == "file" else f"program_{block.line}.py"
            (tmp_path / name).write_text(block.text, encoding="utf-8")
            files.append(name)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "--cache-dir", str(cache)]
    done = subprocess.run(
        [*mypy, "--config-file", str(ROOT / "pyproject.toml"), *files],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": f"{ROOT}"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

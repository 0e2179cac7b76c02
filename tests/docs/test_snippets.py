"""What the documents show is true: programs run, and print what stands below them."""

import ast
from pathlib import Path

import pytest

from tests.docs.conftest import Stage
from tests.docs.snippets import DOCUMENTS, blocks, commands, matches, name_of

pytestmark = [pytest.mark.slow]

BESIDE = Path(__file__).parent / "beside"
RUNNABLE = [document for document in DOCUMENTS if any(block.mark for block in blocks(document))]
WITH_PYTHON = [document for document in DOCUMENTS if any(block.language == "python" for block in blocks(document))]


@pytest.mark.parametrize("document", RUNNABLE, ids=name_of)
def test_document_runs(document: Path, stage: Stage):
    printed = ""
    for block in blocks(document):
        where = f"{name_of(document)}:{block.line}"
        match block.mark:
            case "file":
                stage.write(block.name, block.text)
            case "program":
                if block.name:
                    stage.write(block.name, (BESIDE / block.name).read_text(encoding="utf-8"))
                    stage.start(f"python {block.name}")
                printed = stage.run(f"python {stage.write('program.py', block.text).name}")
            case "output":
                assert matches(stage.here(block.text), printed), f"{where} is not what was printed:\n{printed}"
            case "background":
                for command, _ in commands(block):
                    stage.start(command)
            case "run":
                for command, output in commands(block):
                    printed = stage.run(command)
                    assert matches(stage.here(output), printed), f"{where}: {command} printed\n{printed}"


@pytest.mark.parametrize("document", WITH_PYTHON, ids=name_of)
def test_no_python_is_left_out(document: Path):
    for block in blocks(document):
        if block.language == "python":
            ast.parse(block.text)
            assert block.mark in ("file", "program"), f"{name_of(document)}:{block.line} is not run by any test"


def test_dots_stand_for_anything():
    assert matches("a ... c\n", "a b c\n")
    assert matches("...\nend", "a\nb\nend\n")
    assert not matches("a", "a b")

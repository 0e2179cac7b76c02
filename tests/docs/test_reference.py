"""The reference pages are those that the code makes."""

from pathlib import Path

import pytest

import fdn
from fdn.settings import setting_fields
from tests.docs.snippets import ROOT
from tools import reference


def test_pages_are_up_to_date():
    differences = reference.differences(ROOT)
    assert not differences, f"`python3 -m tools docs --write` brings them up to date:\n{differences}"


def test_there_is_no_page_too_many():
    held = {str(path.relative_to(ROOT)) for path in (ROOT / reference.FOLDER).iterdir()}
    assert held == {*reference.pages()}


@pytest.mark.timeout(180)  # it makes all pages five times
def test_writes_what_it_compares(tmp_path: Path):
    assert {*reference.write(tmp_path)} == {*reference.pages()}
    assert reference.write(tmp_path) == []
    assert reference.differences(tmp_path) == ""
    page = tmp_path / reference.FOLDER / "errors.md"
    page.write_text("something else\n", encoding="utf-8")
    assert "+# Errors" in reference.differences(tmp_path)
    assert reference.write(tmp_path) == [f"{reference.FOLDER}/errors.md"]


def test_everything_public_is_there():
    pages = reference.pages()
    for key, _ in setting_fields():
        if key.rpartition(".")[2] not in ("links", "data", "calls", "facts", "log"):
            assert f"### `{key}`\n" in pages[f"{reference.FOLDER}/settings.md"]
    for name in fdn.__all__:
        value = getattr(fdn, name)
        if isinstance(value, type) and issubclass(value, fdn.Error):
            assert f"## `{name}`\n" in pages[f"{reference.FOLDER}/errors.md"]

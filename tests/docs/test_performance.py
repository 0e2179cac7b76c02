"""The page of figures holds what the results say, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from tools import performance

ROOT = Path(__file__).parents[2]


def test_the_page_is_made_from_the_results() -> None:
    differences = performance.differences(ROOT)
    assert not differences, f"python3 -m tools docs --write\n{differences}"


def test_every_table_is_on_the_page() -> None:
    text = (ROOT / performance.PAGE).read_text(encoding="utf-8")
    assert performance._BLOCK.findall(text) == list(dict.fromkeys(performance._BLOCK.findall(text)))
    assert {*performance._BLOCK.findall(text)} == {*performance.FIGURES}


def test_a_figure_that_was_changed_by_hand_is_found_and_put_right(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "explanation", tmp_path / "docs" / "explanation")
    page = tmp_path / performance.PAGE
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("| fdn def | ", "| fdn def | 9", 1), encoding="utf-8")
    assert "-| fdn def | 9" in performance.differences(tmp_path)
    assert performance.write(tmp_path) == [str(performance.PAGE)]
    assert performance.write(tmp_path) == []
    assert page.read_text(encoding="utf-8") == text


def test_figures_that_there_are_not_are_an_error() -> None:
    with pytest.raises(KeyError):
        performance.filled("<!-- figures: pigeons -->\n<!-- end -->", {})


def test_what_lost_something_says_so() -> None:
    row = {"figure": "cast", "size": 100, "median": 5.0, "lowest": 1.0, "highest": 9.0, "received": 7}
    rows = [{**row, "who": "a", "sent": 7}, {**row, "who": "b", "sent": 8}]
    head, _, whole, lossy = performance.FIGURES["cast"]({"messages": {"rows": rows}})
    assert head == "| messages a second | 100 B |"
    assert whole == "| a | 5 (1 to 9) |"
    assert lossy == "| b | 5 (1 to 9), LOST 1 |"


def test_results_are_of_whole_runs() -> None:
    messages = json.loads((ROOT / performance.RESULTS / "messages.json").read_text(encoding="utf-8"))
    assert {"budgets", "rows", "shared", "blob", "mixed", "overload", "load", "machine", "versions"} <= {*messages}
    for row in messages["rows"]:
        assert row.get("sent") == row.get("received"), row

import json
from pathlib import Path
from typing import Any

import click
import pytest

from fdn.cli import benching
from fdn.cli.benching import Keep
from fdn.cli.options import Invocation


def test_a_size_has_a_unit_or_none() -> None:
    assert (benching.size("100"), benching.size("8MiB")) == (100, 8 * 2**20)
    with pytest.raises(click.BadParameter):
        benching.size("many")


def test_a_running_cluster_is_not_measured() -> None:
    invocation = Invocation()
    benching.own_processes_only(invocation)
    invocation.context = "up"
    with pytest.raises(click.UsageError, match="processes of its own"):
        benching.own_processes_only(invocation)


def test_figures() -> None:
    assert [benching.number(value) for value in (1234, 1.5, 1234.5)] == ["1,234", "1.50", "1,234"]


def test_a_result_is_kept(tmp_path: Path) -> None:
    shown: list[Any] = []
    keep = Keep(tmp_path / "kept.json", None, 0.8)
    assert keep.emit(Invocation(), {"calls_per_s": 7}, lambda: shown.append(1)) == 0
    assert json.loads((tmp_path / "kept.json").read_text()) == {"calls_per_s": 7}
    assert shown == [1]
    with pytest.raises(click.BadParameter, match="there is no folder"):
        Keep.out_of({"save": tmp_path / "none" / "kept.json", "baseline": None, "floor": 0.8})


def test_progress_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    benching.progress()("round 1")
    assert capsys.readouterr().err == ""

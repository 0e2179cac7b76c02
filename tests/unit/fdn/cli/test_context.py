import json
import os
from typing import Any

import pytest

from fdn.cli.contexts import ClusterContext, ContextStore
from fdn.cli.root import run


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["context", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_add_use_show_and_remove(capsys: pytest.CaptureFixture[str]) -> None:
    made = asked(capsys, "add", "shop", "10.0.0.1:7400", "tcp://h2:7400", "--cluster", "shop")
    assert (made["join"], made["in_use"]) == (["tcp://10.0.0.1:7400", "tcp://h2:7400"], False)
    assert asked(capsys, "add", "lab", "h:1", "--use")["in_use"]
    assert [(row["context"], row["in_use"]) for row in asked(capsys, "ls")] == [("lab", True), ("shop", False)]
    assert asked(capsys, "use", "shop") == {"context": "shop"}
    shown = asked(capsys, "show")
    assert (shown["context"], shown["cluster"]) == ("shop", "shop")
    assert shown["file"].endswith("/contexts/shop.toml")
    assert asked(capsys, "show", "lab")["in_use"] is False
    assert asked(capsys, "use", "--none") == {"context": None}
    assert run(["context", "show"]) == 4
    assert asked(capsys, "rm", "shop", "--dry-run")["context"] == "shop"
    assert asked(capsys, "rm", "shop", "--yes")["context"] == "shop"
    assert [row["context"] for row in asked(capsys, "ls")] == ["lab"]


def test_what_is_there_is_not_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, "add", "shop", "h:1")
    assert run(["context", "add", "shop", "h:2"]) == 8
    assert asked(capsys, "add", "shop", "h:2", "--replace", "--dry-run")["join"] == ["tcp://h:2"]
    assert asked(capsys, "show", "shop")["join"] == ["tcp://h:1"]
    assert asked(capsys, "add", "shop", "h:2", "--replace")["join"] == ["tcp://h:2"]


def test_one_that_belongs_to_a_living_process_stays(capsys: pytest.CaptureFixture[str]) -> None:
    ContextStore.of_user(os.environ).write("up", ClusterContext(join=("tcp://h:1",), pid=os.getpid()))
    assert run(["context", "rm", "up", "--yes"]) == 8
    assert asked(capsys, "ls")[0]["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("add", "../x", "h:1"), 2),
        (("add", "x", "nonsense"), 2),
        (("add", "x"), 2),
        (("use",), 2),
        (("use", "x", "--none"), 2),
        (("use", "x"), 4),
        (("show", "x"), 4),
        (("rm", "x", "--yes"), 4),
    ],
    ids=str,
)
def test_mistakes(arguments: tuple[str, ...], status: int) -> None:
    assert run(["context", *arguments]) == status


def test_an_empty_list_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["context", "ls"]) == 0
    assert "fdn context add" in capsys.readouterr().err


def test_the_one_in_use_may_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(capsys, "add", "shop", "h:1")
    monkeypatch.setenv("FDN_CONTEXT", "shop")
    assert asked(capsys, "show")["context"] == "shop"

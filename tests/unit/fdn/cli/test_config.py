import json
from pathlib import Path

import pytest

from fdn.cli.root import run
from fdn.settings import setting_fields


def test_every_setting_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in rows] == [key for key, _ in setting_fields()]


def test_what_has_changed_and_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("fdn.toml").write_text('cluster = "shop"\n[calls]\ntimeout_s = "1m"\n')
    monkeypatch.setenv("FDN_NODE_NAME", "n7")
    monkeypatch.setenv("FDN_NODE_NAM", "n7")
    assert run(["config", "show", "--changed"]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["KEY", "VALUE", "ORIGIN"],
        ["name", "n7", "FDN_NODE_NAME"],
        ["cluster", "shop", "fdn.toml:1"],
        ["calls.timeout_s", "60", "fdn.toml:3"],
    ]
    assert err == "note: FDN_NODE_NAM (did you mean FDN_NODE_NAME?) is no setting; ignored\n"


def test_one_setting_explained(capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop.toml").write_text('[log]\nlevel = "debug"\n')
    assert run(["config", "explain", "log.level", "--config", "shop.toml", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["value"], row["origin"], row["type"], row["variable"]) == (
        "debug",
        "shop.toml:2",
        "string",
        "FDN_LOG_LEVEL",
    )
    assert row["default"] in row["choices"]
    assert run(["config", "explain", "calls.timeout_s"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert float(lines["lowest"]) < float(lines["value"]) < float(lines["highest"])


@pytest.mark.parametrize(
    ("key", "hint"), [("calls.timeout", "calls.timeout_s"), ("timeout_s", "timeout_s"), ("x", "show")]
)
def test_a_setting_that_is_not_there(key: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "explain", key]) == 4
    assert hint in capsys.readouterr().err


def test_validate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "files": [], "set": []}
    Path("shop.toml").write_text("[calls]\ntimeout_s = -1\n")
    assert run(["config", "validate", "shop.toml"]) == 2
    assert "shop.toml:2: calls.timeout_s = -1" in capsys.readouterr().err
    assert run(["config", "validate", "missing.toml"]) == 2

import json
from pathlib import Path

import pytest

from fdn.cli.root import run
from fdn.cli.up import state_folder
from fdn.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0"], "not in the range"),
        (["--exit"], "say --demo too"),
        (["1", "--demo"], "needs at least 2"),
        (["--base-port", "65530"], "not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert run(["up", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def test_a_context_of_a_running_process_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    contexts = tmp_path / "config" / "fdn" / "contexts"
    contexts.mkdir(parents=True)
    (contexts / "up.toml").write_text("pid = 1\n")
    assert run(["up", "--json"]) == 8
    out, err = capsys.readouterr()
    assert out == ""
    assert "belongs to process 1, which still runs" in json.loads(err)["error"]["message"]


def test_settings_are_checked_before_anything_starts(capsys: pytest.CaptureFixture[str]):
    Path("fdn.toml").write_text("clutser = 1\n")
    assert run(["up"]) == 2
    assert "fdn.toml:1: unknown key clutser" in capsys.readouterr().err


def test_the_state_folder_follows_xdg(tmp_path: Path):
    state = tmp_path / "state"
    assert state_folder({"XDG_STATE_HOME": str(state), "HOME": str(tmp_path)}, "up") == state / "fdn" / "up"
    assert (state / "fdn" / "up").is_dir()
    home = {"XDG_STATE_HOME": "relative", "HOME": str(tmp_path)}
    assert state_folder(home, "mine") == tmp_path / ".local" / "state" / "fdn" / "mine"


def test_a_state_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="set XDG_STATE_HOME"):
        state_folder({"XDG_STATE_HOME": str(tmp_path / "file")}, "up")

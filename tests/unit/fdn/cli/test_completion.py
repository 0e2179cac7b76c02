import json

import click
import pytest

from fdn.cli.completion import complete
from fdn.cli.root import root, run

SHELLS = ("bash", "zsh", "fish")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    out, err = capfd.readouterr()
    assert f"_FDN_COMPLETE={shell}_complete" in out
    assert err == ""
    assert run(["completion", shell, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["shell"] == shell


def test_another_shell_is_a_usage_error() -> None:
    assert run(["completion", "tcsh"]) == 2


def answer(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a bash that asks for words behind `line` is told."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert complete(root, {"_FDN_COMPLETE": "bash_complete"}) == 0
    return [word.partition(",")[2] for word in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fdn mem", ["members"]),
        ("fdn context ", ["add", "ls", "rm", "show", "use"]),
        ("fdn channel stat d", ["data"]),
        ("fdn completion ", list(SHELLS)),
        ("fdn config explain calls.timeout", ["calls.timeout_s"]),
        ("fdn cheat tr", ["trouble"]),
        ("fdn members --watc", ["--watch"]),
    ],
)
def test_words_without_a_cluster(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(answer(line, monkeypatch, capsys)) == sorted(expected)


def test_every_command_is_offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(answer("fdn ", monkeypatch, capsys)) == set(root.list_commands(click.Context(root)))

import io

import click
import pytest

from fdn.cli.confirmation import confirm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_yes_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    confirm("All will be lost.", yes=True)


def test_without_a_terminal_it_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(click.UsageError, match="say --yes"):
        confirm("All will be lost.", yes=False)


def test_the_person_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\nn\n"))
    confirm("All will be lost.", yes=False)
    with pytest.raises(click.Abort):
        confirm("All will be lost.", yes=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("All will be lost.") == 2

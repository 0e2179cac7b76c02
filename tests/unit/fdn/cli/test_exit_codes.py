import json

import click
import pytest

from fdn import errors
from fdn.cli.exit_codes import ExitCode, report
from fdn.errors import ConfigError, Error, Overloaded, RemoteError


def test_the_numbers_are_those_that_scripts_know() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "NOT_FOUND": 4,
        "DEADLINE": 5,
        "NO_QUORUM": 6,
        "DENIED": 7,
        "CONFLICT": 8,
        "DEGRADED": 9,
        "TARGET_MISSED": 10,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Error", ExitCode.FAILED),
        ("BadRequest", ExitCode.USAGE),
        ("ConfigError", ExitCode.USAGE),
        ("Cancelled", ExitCode.FAILED),
        ("Conflict", ExitCode.CONFLICT),
        ("DeadlineExceeded", ExitCode.DEADLINE),
        ("Denied", ExitCode.DENIED),
        ("NoQuorum", ExitCode.NO_QUORUM),
        ("NotFound", ExitCode.NOT_FOUND),
        ("NotLeader", ExitCode.NO_QUORUM),
        ("Overloaded", ExitCode.FAILED),
        ("RemoteError", ExitCode.FAILED),
        ("Unreachable", ExitCode.UNREACHABLE),
        ("VersionMismatch", ExitCode.UNREACHABLE),
    ],
)
def test_every_error_ends_with_its_status(name: str, code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    error: Error = getattr(errors, name)("it broke", hint="mend it")
    assert report(error, as_json=False) == code
    assert capsys.readouterr() == ("", "error: it broke\nhint: mend it\n")


def test_a_program_gets_one_object_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Overloaded("full", hint="later"), as_json=True) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {"code": "overloaded", "exit": 1, "message": "full", "hint": "later", "retryable": True, "notes": []}
    }


def test_a_remote_traceback_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report(
        RemoteError("boom", remote_type="ValueError", remote_traceback="Traceback ...\nValueError: boom", node="n2"),
        False,
    )
    assert capsys.readouterr().err == ("error: ValueError: boom\nTraceback on n2:\nTraceback ...\nValueError: boom\n")


def test_nothing_that_a_peer_says_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(ConfigError("a\x1b[2Jb\rc"), as_json=False)
    assert capsys.readouterr().err == "error: a\ufffd[2Jb\ufffdc\n"
    report(ConfigError("a\x1b[2Jb"), as_json=True)
    assert "\x1b" not in capsys.readouterr().err


def test_a_slip_in_the_options_points_at_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(click.Command("members"), info_name="members")
    assert report(click.UsageError("no such option: --x", context), as_json=False) == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "error: no such option: --x\nhint: Usage: members [OPTIONS]; see members --help\n"
    )

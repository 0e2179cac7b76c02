import json

import pytest

from fdn.cli import doctor
from fdn.cli.checks import Check, Verdict
from fdn.cli.root import run

WELL = Check("clock", Verdict.OK, "ticks")
ODD = Check("ports", Verdict.WARN, "7401 in use", "take others")
BAD = Check("libzmq", Verdict.FAIL, "gone", "install it")


@pytest.mark.parametrize(("found", "status"), [([WELL], 0), ([WELL, ODD], 0), ([WELL, ODD, BAD], 9)])
def test_only_a_failure_is_degraded(
    found: list[Check], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda invocation: found)
    assert run(["doctor"]) == status
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + len(found)
    assert err.splitlines() == [f"{check.name}: {check.hint}" for check in found if check.hint]
    assert run(["doctor", "--json"]) == status
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)[0] == {"name": "clock", "verdict": "ok", "detail": "ticks", "hint": ""}


def test_it_examines_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) in (0, 9)
    assert "libzmq" in [check["name"] for check in json.loads(capsys.readouterr().out)]

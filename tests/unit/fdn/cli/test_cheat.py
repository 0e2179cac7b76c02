import json

import pytest

from fdn.cli.cheat import TOPICS
from fdn.cli.root import run


def test_one_topic_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cheat", "events"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == ["events", "  # print all events below a subject", "  fdn sub 'orders.>'"]
    assert run(["cheat"]) == 0
    assert set(TOPICS) <= set(capsys.readouterr().out.splitlines())


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cheat", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["topic"] for row in rows} == set(TOPICS)
    assert all(row["line"] for row in rows)


def test_a_topic_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cheat", "cooking"]) == 4
    assert "events" in capsys.readouterr().err

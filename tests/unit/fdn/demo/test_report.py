import json

from fdn.demo.indexer import Indexed
from fdn.demo.ledger import Ledger
from fdn.demo.report import PROMISES, Report
from fdn.demo.source import index_source


def test_all_held_only_when_every_promise_was_looked_at():
    report = Report(promises=dict.fromkeys(PROMISES, True))
    assert report.all_held
    del report.promises["rejoined"]
    assert not report.all_held
    assert [line[:4] for line in report.verdicts()].count("FAIL") == 1


def test_a_missed_promise_is_named():
    report = Report(promises=dict.fromkeys(PROMISES, True) | {"no_file_lost": False})
    assert not report.all_held
    assert f"FAIL {PROMISES['no_file_lost']}" in report.verdicts()


def test_the_object_for_programs_is_plain_and_has_every_file():
    ledger = Ledger()
    ledger.record(Indexed(index_source("a.py", b"def f(): ...\n"), "n1", 1))
    report = Report(detect_ms={"n1": 310.0, "n3": 290.5}, promises={"formed": True})
    made = json.loads(json.dumps(report.as_object(ledger, "/lib")))
    assert made["held"] is False
    assert made["promises"]["formed"] is True
    assert made["promises"]["detected"] is False
    assert made["times"]["detect_ms"] == 310.0
    assert made["files_count"] == 1
    assert made["files"][0]["functions"] == 1

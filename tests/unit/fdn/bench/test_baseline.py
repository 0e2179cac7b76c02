import json
from pathlib import Path

import pytest

from fdn.bench.baseline import compare, load, rates
from fdn.errors import ConfigError

RESULT = {
    "events_per_s": {"1": 100, "5": 200},
    "lost": 0,
    "raw": {"messages_per_s": 50.5, "p99_us": 3.0},
    "rounds": [{"events_per_s": 7}],
    "rows": [{"events_per_s": 7}],
}


def test_only_rates_and_none_of_what_they_are_made_of():
    assert rates(RESULT) == {"events_per_s.1": 100, "events_per_s.5": 200, "raw.messages_per_s": 50.5}


def test_figures_of_both_beside_one_another():
    now = {"events_per_s": {"1": 80, "50": 1}, "raw": {"messages_per_s": 101.0}}
    assert compare(now, RESULT) == [
        {"figure": "events_per_s.1", "before": 100, "now": 80, "ratio": 0.8},
        {"figure": "raw.messages_per_s", "before": 50.5, "now": 101.0, "ratio": 2.0},
    ]


def test_what_was_saved_is_loaded_and_nothing_else(tmp_path: Path):
    path = tmp_path / "result.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path)
    for text, why in (("{", "cannot be read"), ("[1]", "is no result"), ('{"a": 1}', "is no result")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=why):
            load(path)
    path.write_text(json.dumps(RESULT))
    assert load(path) == RESULT

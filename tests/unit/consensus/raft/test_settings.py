import dataclasses
from typing import Any

import pytest

from consensus.raft import RaftSettings


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RaftSettings)])
def test_each_setting_is_explained(field: str):
    assert f"        {field}: " in (RaftSettings.__doc__ or "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_interval_s": 0},
        {"append_bytes_max": -1},
        {"election_timeout_s": float("inf")},
        {"election_timeout_s": 0.08, "heartbeat_interval_s": 0.05},
        {"lease_s": 0.3, "election_timeout_s": 0.25},
        {"clock_drift_max": 1.0},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RaftSettings(**wrong)


def test_any_priority_will_do():
    assert RaftSettings(priority=-3).priority == -3

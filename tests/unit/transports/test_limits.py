import dataclasses

import pytest

from transports.limits import FRAME_SLACK_BYTES, Limits


def test_defaults_are_valid_and_leave_room_for_the_largest_body():
    limits = Limits()
    assert limits.body_bytes_max == 16 * 1024 * 1024
    assert limits.frame_bytes_max == limits.body_bytes_max + FRAME_SLACK_BYTES


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_every_limit_is_a_bound_and_explained(name: str):
    none = -1 if name in ("spin_s", "io_nice") else 0  # none of either is the default
    with pytest.raises(ValueError, match=f"{name}={none} is not a bound"):
        Limits(**{name: none})
    assert f"{name}: " in (Limits.__doc__ or "")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"batch_messages_max": 65_536}, "65535"),
        ({"frame_bytes_max": 1000}, "too small"),
        ({"batch_bytes_max": 1 << 24}, "twice batch_bytes_max"),
        ({"heartbeat_interval_s": 5.0}, "must be below"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)  # type: ignore[arg-type]

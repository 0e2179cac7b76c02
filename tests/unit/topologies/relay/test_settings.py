import pytest

from topologies.relay.settings import RelaySettings


def test_the_defaults_are_possible():
    assert RelaySettings().ttl <= 5


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"candidates": 0}, "candidates is 0"),
        ({"hold_s": float("nan")}, "hold_s is nan"),
        ({"ttl": 6}, "the wire takes 5 relays"),
        ({"factor": 0.5}, "below 1 every path"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        RelaySettings(**fields)

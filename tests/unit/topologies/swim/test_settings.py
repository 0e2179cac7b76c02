import pytest

from topologies.swim.settings import SwimSettings


def test_local_is_what_loopback_was_promised():
    local = SwimSettings.local()
    assert (local.probe_interval_s, local.ack_timeout_s, local.suspicion_multiplier) == (0.25, 0.1, 4)


def test_lan_and_wan_are_memberlists():
    lan, wan = SwimSettings.lan(), SwimSettings.wan()
    assert (lan.probe_interval_s, lan.ack_timeout_s, lan.suspicion_multiplier, lan.indirect_count) == (1.0, 0.5, 4, 3)
    assert (wan.probe_interval_s, wan.ack_timeout_s, wan.suspicion_multiplier, wan.indirect_count) == (5.0, 3.0, 6, 3)
    assert (lan.push_pull_interval_s, wan.push_pull_interval_s) == (30.0, 60.0)
    assert SwimSettings() == lan


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probe_interval_s": 0.0}, "probe_interval_s is 0.0"),
        ({"probe_interval_s": float("inf")}, "probe_interval_s is inf"),
        ({"ack_timeout_s": 1.0}, "must be shorter"),
        ({"gossip_fan": -1}, "gossip_fan is -1"),
        ({"claims_per_message_max": 100_000}, "claims_per_message_max is 100000; receivers read 1024"),
        ({"push_pull_claims_max": 1025}, "push_pull_claims_max is 1025; receivers read 1024"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        SwimSettings(**wrong)

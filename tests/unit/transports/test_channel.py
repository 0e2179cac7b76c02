from transports.channel import Channel


def test_names_and_offsets_are_those_of_the_specification():
    assert {channel.value: channel.port_offset for channel in Channel} == {
        "coordination": 0,
        "gossip": 1,
        "data": 2,
        "events": 3,
    }

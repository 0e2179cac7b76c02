import pytest

from fdn.addresses import parse_advertise, parse_bind, parse_join
from transports.channel import Channel


def test_a_base_port_gives_each_channel_its_own() -> None:
    assert parse_bind("tcp://10.0.0.1:7400").endpoints() == {
        Channel.COORDINATION: "tcp://10.0.0.1:7400",
        Channel.GOSSIP: "tcp://10.0.0.1:7401",
        Channel.DATA: "tcp://10.0.0.1:7402",
        Channel.EVENTS: "tcp://10.0.0.1:7403",
    }


def test_port_0_stays_0_and_another_base_can_be_taken() -> None:
    bind = parse_bind("tcp://[::1]:0")
    assert set(bind.endpoints().values()) == {"tcp://[::1]:0"}
    assert bind.endpoints(7404)[Channel.EVENTS] == "tcp://[::1]:7407"


def test_a_plus_searches() -> None:
    assert parse_bind("tcp://127.0.0.1:7400+").search
    assert not parse_bind("tcp://127.0.0.1:7400").search
    assert parse_bind("tcp://127.0.0.1:7400+").port == 7400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("127.0.0.1", "no port"),
        ("7400", "no port"),
        ("127.0.0.1:65536", "no port between 0 and 65535"),
        ("127.0.0.1:0+", "leave out the +"),
        ("tcp://127.0.0.1", "no port"),
        ("tcp://127.0.0.1:65533", "at most 65532"),
        ("tcp://127.0.0.1:0+", "leave out the +"),
        ("tcp://::1:7400", "IPv6 goes in brackets"),
        ("udp://127.0.0.1:7400", "unknown scheme"),
        ("", "expected"),
    ],
)
def test_binds_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("+", r"\+")):
        parse_bind(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [("10.0.0.5", "10.0.0.5"), ("n1.example.org", "n1.example.org"), ("::1", "[::1]"), ("[fe80::1]", "[fe80::1]")],
)
def test_advertising_a_host(text: str, host: str) -> None:
    assert parse_advertise(text) == host


def test_advertising_a_map() -> None:
    text = "coordination=tcp://h:1, gossip=tcp://h:2,data=tcp://g:3,events=tcp://[::1]:4"
    assert parse_advertise(text) == {
        Channel.COORDINATION: "tcp://h:1",
        Channel.GOSSIP: "tcp://h:2",
        Channel.DATA: "tcp://g:3",
        Channel.EVENTS: "tcp://[::1]:4",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("h:7400", "expected a host"),
        ("0.0.0.0", "expected a host"),
        ("tcp://h:7400", "expected a host"),
        ("gossip=tcp://h:2", "no endpoint for coordination, data, events"),
        ("gosip=tcp://h:2", '"gosip" is not a channel'),
        ("gossip=h", "expected tcp://HOST:PORT"),
        ("gossip=tcp://*:2", "wildcard"),
    ],
)
def test_advertisements_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_advertise(text)


def test_a_bare_address_is_tcp() -> None:
    assert parse_join("10.0.0.1:7400") == "tcp://10.0.0.1:7400"
    assert parse_join("[::1]:7400") == "tcp://[::1]:7400"
    assert parse_join("tcp://h:1") == "tcp://h:1"
    assert parse_bind("127.0.0.1:7400") == parse_bind("tcp://127.0.0.1:7400")
    assert parse_bind("[::1]:7400+") == parse_bind("tcp://[::1]:7400+")


@pytest.mark.parametrize("text", ["h", "h:0", "h:65536", "*:7400", "0.0.0.0:7400", "udp://h:1", "", "h:7400+"])
def test_addresses_that_nobody_can_dial_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|dialled"):
        parse_join(text)

import pytest

from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInvalid


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://127.0.0.1:7400", Endpoint("tcp", "127.0.0.1", 7400)),
        ("tcp://node-1.example.org:0", Endpoint("tcp", "node-1.example.org", 0)),
        ("tcp://my_host:65535", Endpoint("tcp", "my_host", 65535)),
        ("tcp://[::1]:7400", Endpoint("tcp", "::1", 7400)),
        ("tcp://[fe80::1%eth0]:7400", Endpoint("tcp", "fe80::1%eth0", 7400)),
        ("tcp://*:7400", Endpoint("tcp", "*", 7400)),
        ("ipc:///tmp/n1.sock", Endpoint("ipc", "/tmp/n1.sock")),
        ("memory://n1", Endpoint("memory", "n1")),
    ],
)
def test_endpoints_are_read_and_printed(text: str, endpoint: Endpoint):
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:7400", "expected tcp://"),
        ("tcp://", "expected tcp://"),
        ("tcp://127.0.0.1", "no port"),
        ("tcp://127.0.0.1:", "no port"),
        ("tcp://127.0.0.1:65536", "no port"),
        ("tcp://127.0.0.1:-1", "no port"),
        ("tcp://127.0.0.1:٣", "no port"),
        ("tcp://:7400", "neither a host name"),
        ("tcp://::1:7400", "in brackets"),
        ("tcp://[127.0.0.1]:7400", "not an IPv6 address"),
        ("tcp://[::1:7400", "neither"),
        ("tcp://a b:7400", "neither"),
        ("tcp://-a:7400", "neither"),
        ("tcp://a;b:7400", "neither"),
        ("pgm://x:1", "unknown scheme 'pgm'"),
        ("ipc://" + "x" * 108, "107 bytes"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(EndpointInvalid, match="endpoint") as caught:
        Endpoint.parse(text)
    assert reason in caught.value.reason
    assert caught.value.endpoint == text


@pytest.mark.parametrize(
    ("base", "endpoints"),
    [
        ("tcp://h:7400", ["tcp://h:7400", "tcp://h:7401", "tcp://h:7402", "tcp://h:7403"]),
        ("tcp://[::1]:7400", ["tcp://[::1]:7400", "tcp://[::1]:7401", "tcp://[::1]:7402", "tcp://[::1]:7403"]),
        ("tcp://h:0", ["tcp://h:0"] * 4),
        ("ipc:///tmp/n", ["ipc:///tmp/n.coordination", "ipc:///tmp/n.gossip", "ipc:///tmp/n.data", "ipc:///tmp/n.events"]),
        ("memory://n", ["memory://n.coordination", "memory://n.gossip", "memory://n.data", "memory://n.events"]),
    ],
)  # fmt: skip
def test_the_base_port_rule(base: str, endpoints: list[str]):
    assert [str(Endpoint.parse(base).for_channel(channel)) for channel in Channel] == endpoints


def test_the_base_port_leaves_room_for_four():
    assert Endpoint.parse("tcp://h:65532").for_channel(Channel.EVENTS).port == 65535
    with pytest.raises(EndpointInvalid, match="65532 at most"):
        Endpoint.parse("tcp://h:65533").for_channel(Channel.EVENTS)


@pytest.mark.parametrize("host", ["tcp://127.0.0.1", "tcp://127.9.9.9", "tcp://[::1]", "tcp://localhost", "ipc://x"])
def test_loopback(host: str):
    assert Endpoint.parse(f"{host}:1").is_loopback


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "*", "[::]", "localhost.example.org", "[2001:db8::1]"])
def test_not_loopback(host: str):
    assert not Endpoint.parse(f"tcp://{host}:1").is_loopback


@pytest.mark.parametrize("text", ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://127.0.0.1:0"])
def test_what_can_only_be_bound(text: str):
    with pytest.raises(EndpointInvalid, match="can be bound but not dialled"):
        Endpoint.parse(text).check_dialable()


def test_names_and_families():
    assert Endpoint.parse("tcp://localhost:1").is_name
    assert not Endpoint.parse("tcp://127.0.0.1:1").is_name
    assert not Endpoint.parse("tcp://*:1").is_name
    assert Endpoint.parse("tcp://[::1]:1").is_ipv6
    assert not Endpoint.parse("tcp://127.0.0.1:1").is_ipv6
    Endpoint.parse("ipc://x").check_dialable()

"""What only real sockets show; the rest is in `test_contract.py`."""

import socket as sockets
from pathlib import Path

import pytest

from tests.unit.transports.harness import Dialled, Inbox, Listening, Rig, cast, scenario
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInUse, EndpointInvalid


@scenario
async def test_an_ephemeral_port_is_told(rig: Rig):
    endpoint = Endpoint.parse(Listening(rig.transport(), "tcp://127.0.0.1:0").endpoint)
    assert endpoint.host == "127.0.0.1"
    assert endpoint.port > 0


@scenario
async def test_ipv6(rig: Rig):
    if not sockets.has_ipv6:
        pytest.skip("this Python has no IPv6")
    try:
        listening = Listening(rig.transport(), "tcp://[::1]:0")
    except EndpointInvalid as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error.reason}")
    dialled = Dialled(rig.transport(), listening.endpoint)
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    assert listening.endpoint.startswith("tcp://[::1]:")


@scenario
async def test_ipc_carries_batches_and_leaves_no_file(rig: Rig, tmp_path: Path):
    path = tmp_path / "n.data"
    listening = Listening(rig.transport(), f"ipc://{path}")
    dialled = Dialled(rig.transport(), listening.endpoint)
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    listening.listener.close()
    assert not path.exists()


@scenario
async def test_a_path_in_use_is_not_stolen(rig: Rig, tmp_path: Path):
    endpoint = f"ipc://{tmp_path / 'n.data'}"
    listening = Listening(rig.transport(), endpoint)
    with pytest.raises(EndpointInUse):
        Listening(rig.transport(), endpoint)
    dialled = Dialled(rig.transport(), endpoint)
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)


@scenario
async def test_a_stale_path_is_taken_over_and_a_file_is_not(rig: Rig, tmp_path: Path):
    stale = tmp_path / "stale"
    with sockets.socket(sockets.AF_UNIX) as left_behind:
        left_behind.bind(str(stale))
    Listening(rig.transport(), f"ipc://{stale}")
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(EndpointInvalid, match="not a socket"):
        Listening(rig.transport(), f"ipc://{precious}")
    assert precious.read_text() == "data"


@pytest.mark.parametrize(
    "endpoint", ["tcp://192.0.2.1:0", "tcp://no-such-host.invalid:0", "ipc:///no/such/dir/x", "memory://x"]
)
@scenario
async def test_what_cannot_be_bound_says_why(rig: Rig, endpoint: str):
    with pytest.raises(EndpointInvalid) as caught:
        rig.transport().listen(Channel.DATA, endpoint, Inbox())
    assert caught.value.endpoint == endpoint


@scenario
async def test_a_port_taken_by_another_program_says_so(rig: Rig):
    with sockets.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EndpointInUse, match="port 0"):
            Listening(rig.transport(), endpoint)
    Listening(rig.transport(), endpoint)


@scenario
async def test_a_port_is_free_as_soon_as_close_returns(rig: Rig):
    transport = rig.transport()
    listening = Listening(transport, rig.fresh)
    for _ in range(50):
        listening.listener.close()
        listening = Listening(transport, listening.endpoint)

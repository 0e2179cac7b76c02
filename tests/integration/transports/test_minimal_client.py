"""The client printed in the specification runs as it stands, against our listener."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
import zmq

from tests.unit.transports.harness import Inbox, Rig, scenario
from transports.channel import Channel
from transports.transport import Batch, Listener
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Role, Welcome, common_version

SPECIFICATION = Path(__file__).parents[3] / "docs/spec/0001-wire.md"


@pytest.fixture
def rig() -> Rig:
    return Rig("zmq")


@scenario
async def test_it_says_hello_calls_and_is_answered(rig: Rig):
    log = Inbox()

    def serve(batch: Batch) -> None:
        log(batch)
        listener.send(batch.source, answer(batch.envelopes[0]))

    listener: Listener = rig.transport().listen(Channel.DATA, rig.fresh, serve)
    [code] = re.findall(r"```python\n(.*?)```", SPECIFICATION.read_text(encoding="utf-8"), re.DOTALL)
    assert "tcp://127.0.0.1:7402" in code
    names = await asyncio.to_thread(run, code.replace("tcp://127.0.0.1:7402", listener.endpoint))
    assert (names["kind"], names["id"], names["body"]) == (Kind.REPLY, 1, 5)
    assert log.envelopes[1].deadline_ms == 5000


def run(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    try:
        exec(code, names)  # noqa: S102  # our own specification
    finally:
        zmq.Context.instance().destroy(linger=0)
    return names


def answer(envelope: Envelope) -> Envelope:
    if envelope.kind == Kind.HELLO:
        hello = msgspec.msgpack.decode(envelope.body, type=Hello)
        assert hello.role is Role.CLIENT
        assert hello.channel == Channel.DATA
        version = common_version(hello.versions)
        assert version
        welcome = Welcome(version, hello.cluster, Identity("n1-0000000000000000"), hello.epoch)
        return Envelope(Kind.WELCOME, body=msgspec.Raw(msgspec.msgpack.encode(welcome)))
    request = msgspec.msgpack.decode(envelope.body)
    return Envelope(Kind.REPLY, "", envelope.id, body=msgspec.Raw(msgspec.msgpack.encode(request["a"] + request["b"])))

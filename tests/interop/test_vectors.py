"""The golden bytes, read and written by our codec and by the independent `msgpack` package."""

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy
import pytest

from fdn.messaging.blobs.reference import EXT_BLOB, pack_reference, unpack_reference
from fdn.messaging.payloads import decode, encode
from transports.assembly import Assembled, Assembly, BufferPool
from transports.bulk import Bulk
from transports.errors import MalformedBatch, UnknownWireVersion
from transports.limits import Limits
from transports.parcel import encode_alone, whole
from transports.wire.batch import decode_batch, encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Bye, Hello, Refused, Role, Welcome

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
BATCHES = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["batches"]]
CANONICAL = [param for param, vector in zip(BATCHES, VECTORS["batches"], strict=True) if vector["canonical"]]
PARCELS = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["attachments"]]
UNSOUND = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["attachments_refused"]]
BLOBS = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["blobs"]]
REFUSED = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["refused"]]
STRUCTS = {Kind.HELLO: Hello, Kind.WELCOME: Welcome, Kind.REFUSED: Refused, Kind.BYE: Bye}
HANDSHAKES = [
    pytest.param(vector, id=vector["name"])
    for vector in VECTORS["batches"]
    if vector["canonical"] and vector["envelopes"][0]["kind"] in STRUCTS
]


def value(meaning: Any) -> Any:
    """What a value of the file stands for."""
    match meaning:
        case {"bin": digits}:
            return bytes.fromhex(digits)
        case {"map": items}:
            return {value(key): value(item) for key, item in items}
        case {"array": [dtype, rows]}:
            return numpy.array(rows, dtype)
        case {"int": digits}:
            return int(digits)
        case list():
            return [value(item) for item in meaning]
    return meaning


def fields(envelope: dict[str, Any]) -> list[Any]:
    return [value(envelope[name]) for name in ("kind", "to", "id", "deadline_ms", "meta", "body")]


def body_of(envelope: Envelope) -> Any:
    return msgspec.msgpack.decode(envelope.body)


@pytest.mark.parametrize("vector", BATCHES)
def test_our_codec_reads_it(vector: dict[str, Any]):
    envelopes, malformed = decode_batch(bytes.fromhex(vector["hex"]))
    assert [[e.kind, e.to, e.id, e.deadline_ms, e.meta, body_of(e)] for e in envelopes] == [
        fields(envelope) for envelope in vector["envelopes"]
    ]
    assert malformed == vector["malformed"]


@pytest.mark.parametrize("vector", CANONICAL)
def test_our_codec_writes_it(vector: dict[str, Any]):
    envelopes = [
        Envelope(kind, to, id_, deadline_ms, meta, msgspec.Raw(msgspec.msgpack.encode(body)))
        for kind, to, id_, deadline_ms, meta, body in map(fields, vector["envelopes"])
    ]
    assert encode_batch(envelopes).hex() == vector["hex"]
    assert encode_batch(decode_batch(encode_batch(envelopes))[0]).hex() == vector["hex"]


@pytest.mark.parametrize("vector", CANONICAL)
def test_msgpack_reads_it(vector: dict[str, Any]):
    frame = bytes.fromhex(vector["hex"])
    assert frame[0] == 1
    assert msgpack.unpackb(frame[1:], strict_map_key=False) == [fields(e) for e in vector["envelopes"]]


@pytest.mark.parametrize("vector", CANONICAL)
def test_msgpack_writes_it(vector: dict[str, Any]):
    assert (b"\x01" + msgpack.packb([fields(e) for e in vector["envelopes"]])).hex() == vector["hex"]


@pytest.mark.parametrize("vector", REFUSED)
def test_our_codec_refuses_it(vector: dict[str, Any]):
    expected = {"malformed": MalformedBatch, "version": UnknownWireVersion}[vector["error"]]
    with pytest.raises(expected):
        decode_batch(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", HANDSHAKES)
def test_handshake_bodies_are_read_and_written_as_structs(vector: dict[str, Any]):
    [envelope], _ = decode_batch(bytes.fromhex(vector["hex"]))
    struct = msgspec.msgpack.decode(envelope.body, type=STRUCTS[Kind(envelope.kind)])
    assert msgspec.msgpack.encode(struct) == bytes(envelope.body)


def test_the_client_hello_means_what_the_specification_says():
    [vector] = [vector for vector in VECTORS["batches"] if vector["name"] == "hello client"]
    [envelope], _ = decode_batch(bytes.fromhex(vector["hex"]))
    hello = msgspec.msgpack.decode(envelope.body, type=Hello)
    assert hello.role is Role.CLIENT
    assert hello.identity.endpoints == {}
    assert hello.offers == (0, "")


def test_every_kind_and_every_meta_key_has_a_vector():
    envelopes = [envelope for vector in VECTORS["batches"] for envelope in vector["envelopes"]]
    assert {int(kind) for kind in Kind} <= {envelope["kind"] for envelope in envelopes}
    assert {int(key) for key in MetaKey} <= {key for envelope in envelopes for key in value(envelope["meta"]) or {}}


def test_streams_and_services_of_clients_have_vectors():
    """Sections 4.6 and 4.7: what a kind means there depends on `to` and on the body, so every use has its bytes."""
    uses = {
        (envelope["kind"], envelope["to"], isinstance(value(envelope["body"]), dict))
        for vector in VECTORS["batches"]
        for envelope in vector["envelopes"]
    }
    assert {(Kind.CREDIT, "reply", False), (Kind.CREDIT, "request", False)} <= uses
    assert {(Kind.ITEM, "request", False), (Kind.END, "request", False), (Kind.END, "request", True)} <= uses
    assert (Kind.END, "", True) in uses
    assert {(Kind.SUBSCRIBE, "text.upper", False), (Kind.SUBSCRIBE, "text.upper", True)} <= uses


def take(vector: dict[str, Any]) -> list[Envelope]:
    frame, *attachments = (bytes.fromhex(digits) for digits in vector["frames"])
    envelopes, malformed = decode_batch(frame)
    assert malformed == 0
    return whole(envelopes, [memoryview(part) for part in attachments])[0]


@pytest.mark.parametrize("vector", PARCELS)
def test_our_codec_reads_attachments(vector: dict[str, Any]):
    [envelope] = take(vector)
    expected = value(vector["value"])
    arrived = decode(envelope.body)
    if isinstance(expected, numpy.ndarray):
        assert arrived.dtype == expected.dtype
        numpy.testing.assert_array_equal(arrived, expected)
    else:
        assert arrived == expected


@pytest.mark.parametrize("vector", UNSOUND)
def test_our_codec_refuses_attachments_that_are_not_there(vector: dict[str, Any]):
    assert take(vector) == []


def test_our_codec_writes_attachments_as_the_specification_says():
    array = numpy.arange(10_000, dtype="<f8").reshape(100, 100)
    frame, [attachment] = encode_alone(Envelope(Kind.REPLY, "", 7, 0, None, encode(array)), 1 << 20)
    extension = msgpack.ExtType(2, msgpack.packb(["<f8", [100, 100], "C", 0]))
    assert frame == b"\x01" + msgpack.packb([[6, "", 7, 0, {6: [0]}, extension]])
    assert bytes(attachment) == array.tobytes()


@pytest.mark.parametrize("vector", BLOBS)
def test_a_reference_to_a_blob_is_what_it_says(vector: dict[str, Any]):
    data = bytes.fromhex(vector["hex"])
    assert msgpack.unpackb(data) == value(vector["reference"])
    reference = unpack_reference(data)
    assert pack_reference(reference) == data
    blob = decode(msgspec.Raw(msgpack.packb(msgpack.ExtType(EXT_BLOB, data))))
    assert blob.reference == reference
    assert bytes(encode(blob)) == msgpack.packb(msgpack.ExtType(EXT_BLOB, data))


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["transfers"]])
def test_our_codec_reads_transfers(vector: dict[str, Any]):
    limits = Limits()
    assembly = Assembly(BufferPool(limits), limits)
    result = None
    for frames in vector["messages"]:
        frame, *attachments = (bytes.fromhex(digits) for digits in frames)
        [chunk] = whole(decode_batch(frame)[0], [memoryview(part) for part in attachments])[0]
        assert result is None
        result = assembly.on_chunk(chunk.id, chunk.body)
    expected = vector["envelope"]
    if expected is None:
        assert result is None
        return
    assert isinstance(result, Assembled)
    envelope = result.envelope
    assert [envelope.kind, envelope.to, envelope.id, envelope.deadline_ms, decode(envelope.body)] == [
        *(expected[name] for name in ("kind", "to", "id", "deadline_ms")),
        value(expected["value"]),
    ]


def test_our_codec_writes_transfers_as_the_specification_says():
    limits = Limits(chunk_bytes=5)
    bulk = Bulk(limits)
    bulk.grant(0)
    parcel = encode({"a": bytes(70_000), "b": 1})
    parcel.attachments = [b"abcdefgh"]
    bulk.put(Envelope(Kind.CALL, "t.f", 7, 0, None, parcel), 0.0, None, is_answer=False)
    sent = []
    while (piece := bulk.next_piece(0.0, 0)) is not None:
        sent.append([msgpack.unpackb(piece.frame[1:], strict_map_key=False), *map(bytes, piece.attachments)])
    total = len(parcel) - len(parcel.body)
    inner = msgpack.packb([5, "t.f", 7, 0, {6: [0]}, {"a": msgpack.ExtType(1, b"\0\0"), "b": 1}])
    assert sent == [
        [[[17, "", 1, 0, {6: [0]}, [total, 0, 8, 0]]], b"abcde"],
        [[[17, "", 1, 0, {6: [0]}, [total, 0, 8, 5]]], b"fgh"],
        [[[17, "", 1, 0, None, inner]]],
    ]

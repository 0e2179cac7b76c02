"""A payload whose large parts travel beside the MessagePack and not inside it, so that nobody copies them.

In the body, an extension type stands where each part was (`docs/spec/0001-wire.md`, section 4.10): type 1 for a buffer,
type 2 for an array, whose octets may also be in the extension itself, and type 3 for a body that is itself too large
for a frame. Which payload gets this form is decided above this room; here it is carried, and put back into one piece
for peers that know nothing of attachments.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec

from transports.errors import LocalProtocolError, OversizedEnvelope
from transports.shm.handles import Received, read_handle
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = (
    "ATTACHED_BYTES_MIN",
    "EXT_ARRAY",
    "EXT_BODY",
    "EXT_BUFFER",
    "Body",
    "Buffer",
    "Parcel",
    "claim",
    "encode_alone",
    "index_of",
    "lay_out",
    "whole",
)

# Below this, one more frame costs more than the copy that it saves.
ATTACHED_BYTES_MIN: Final = 64 * 1024
EXT_BUFFER: Final = 1
EXT_ARRAY: Final = 2
EXT_BODY: Final = 3

Buffer = bytes | memoryview

_ATTACHMENTS: Final = int(MetaKey.ATTACHMENTS)
_SHARED: Final = int(MetaKey.SHARED)
# Others are read by parts of the house that know nothing of parcels.
_PAYLOAD_KINDS: Final = frozenset({Kind.CALL, Kind.REPLY, Kind.ITEM, Kind.CAST, Kind.EVENT, Kind.CHUNK, Kind.RELAY})
_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()
_one_value = msgspec.msgpack.Decoder(msgspec.Raw)
_UNREADABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, IndexError)


@final
class Parcel:
    """A body and its attachments, as `Envelope.body` holds them on both sides of the wire.

    Args:
        body: MessagePack, with an extension where each part was.
        attachments: The parts, contiguous, one octet an element. They are sent from where they are: nobody may change
            them before they have left.
    """

    __slots__ = ("_size", "attachments", "body")

    def __init__(self, body: msgspec.Raw, attachments: Sequence[Buffer]) -> None:
        self.body = body
        self.attachments = attachments
        self._size = len(body) + sum(map(len, attachments))

    @classmethod
    def of_buffer(cls, buffer: Buffer) -> "Parcel":
        """One that is a buffer and nothing else."""
        return cls(_ONE_BUFFER, (buffer,))

    @classmethod
    def of_body(cls, body: msgspec.Raw) -> "Parcel":
        """One whose MessagePack is itself the attachment."""
        return cls(_ONE_BODY, (memoryview(body),))

    def __len__(self) -> int:
        """All octets, those of the attachments included."""
        return self._size

    @property
    def handles(self) -> list[Received]:
        """The attachments that are still to be looked for in shared memory."""
        attachments: Sequence[object] = self.attachments  # before they are mapped
        return [each for each in attachments if isinstance(each, Received)]

    def mapped(self, receive: Callable[[str, int, int], memoryview]) -> "Parcel":
        """The same with these attachments as buffers. Raises what `receive(name, offset, length)` raises."""
        found: list[Any] = list(self.attachments)
        for place, each in enumerate(found):
            if isinstance(each, Received):
                found[place] = receive(each.name, each.offset, each.length)
        return Parcel(self.body, found)

    @property
    def only(self) -> Buffer | None:
        """The buffer that it is, if it is nothing else."""
        return self.attachments[0] if len(self.attachments) == 1 and self.body == _ONE_BUFFER else None

    def copy(self) -> "Parcel":
        """One that keeps no received frame alive."""
        return Parcel(self.body.copy(), [bytes(each) for each in self.attachments])

    def with_body_beside(self) -> "Parcel":
        """The same, with its MessagePack as one more attachment."""
        index = len(self.attachments).to_bytes(2, "big")
        body = msgspec.Raw(bytes((_FIXEXT2, EXT_BODY)) + index)
        return Parcel(body, [*self.attachments, memoryview(self.body)])

    def unwrapped(self) -> "msgspec.Raw | Parcel":
        """What it stands for when its body is in an attachment; else itself.

        Raises:
            ValueError: The body names an attachment that is not there, or is no body.
        """
        view = memoryview(self.body)
        if len(view) != 4 or view[0] != _FIXEXT2 or view[1] != EXT_BODY:
            return self
        index = index_of(view[2:])
        if index >= len(self.attachments):
            raise ValueError(f"attachment {index} of {len(self.attachments)}")
        others = [each for at, each in enumerate(self.attachments) if at != index]
        inner = self.attachments[index]
        if len(inner) < ATTACHED_BYTES_MIN:
            _one_value.decode(inner)  # it may be sent on, among others in one batch, which it must not spoil
        body = msgspec.Raw(inner)
        return Parcel(body, others) if others else body

    def inline(self) -> msgspec.Raw:
        """The same payload in one piece; copies everything.

        Raises:
            LocalProtocolError: The body is not what the specification says.
        """
        if self.only is not None:
            return msgspec.Raw(_encoder.encode(self.only))
        try:
            unwrapped = self.unwrapped()
            if not isinstance(unwrapped, Parcel):
                return unwrapped.copy()
            take = claim(unwrapped.attachments)
            decoder = msgspec.msgpack.Decoder(ext_hook=lambda code, data: _put_back(code, data, take))
            return msgspec.Raw(_encoder.encode(decoder.decode(unwrapped.body)))
        except _UNREADABLE as error:
            raise LocalProtocolError(f"a payload with attachments cannot be put into one piece: {error}") from error


def index_of(data: Buffer) -> int:
    """The attachment that an extension of type 1 or 3 names."""
    if len(data) != 2:
        raise ValueError(f"an index of {len(data)} octets; expected 2")
    return int.from_bytes(data, "big")


def claim(attachments: Sequence[Buffer]) -> Callable[[int], Buffer]:
    """A function that gives each attachment once: a body that names one a million times must not fill our memory.

    It raises ValueError for one that is not there, or was taken.
    """
    left: list[Buffer | None] = list(attachments)

    def take(index: int) -> Buffer:
        part = left[index] if 0 <= index < len(left) else None
        if part is None:
            raise ValueError(f"attachment {index} of {len(left)} is not there, or named twice")
        left[index] = None
        return part

    return take


def lay_out(envelope: Envelope, shared: Sequence[int] = ()) -> tuple[Envelope, Sequence[Buffer]]:
    """The envelope as it goes into a batch, and the frames behind it. The one given is not changed.

    Args:
        shared: Places among the attachments where a handle to shared memory stands.
    """
    parcel: Parcel = envelope.body
    meta = {**(envelope.meta or {}), _ATTACHMENTS: list(range(len(parcel.attachments)))}
    if shared:
        meta[_SHARED] = list(shared)
    laid_out = Envelope(envelope.kind, envelope.to, envelope.id, envelope.deadline_ms, meta, parcel.body)
    return laid_out, parcel.attachments


def encode_alone(envelope: Envelope, frame_bytes_max: int) -> tuple[bytes, Sequence[Buffer]]:
    """A batch of one envelope, and the frames behind it.

    Raises:
        LocalProtocolError: The envelope cannot be encoded.
        OversizedEnvelope: One of the frames exceeds `frame_bytes_max`.
    """
    attachments: Sequence[Buffer] = ()
    if type(envelope.body) is Parcel:
        envelope, attachments = lay_out(envelope)
    frame = encode_batch((envelope,))
    largest = max(len(frame), *map(len, attachments)) if attachments else len(frame)
    if largest > frame_bytes_max:
        raise OversizedEnvelope(largest, frame_bytes_max)
    return frame, attachments


def whole(envelopes: Sequence[Envelope], attachments: Sequence[Buffer]) -> tuple[list[Envelope], int]:
    """Give received envelopes their attachments.

    Returns:
        Those that are sound, with a `Parcel` (or the `Raw` that was in an attachment) as body where they have
        attachments, and the number of those that are not.
    """
    sound: list[Envelope] = []
    for envelope in envelopes:
        meta = envelope.meta
        if meta is None or _ATTACHMENTS not in meta or envelope.kind not in _PAYLOAD_KINDS:
            sound.append(envelope)
            continue
        indexes = meta.pop(_ATTACHMENTS)
        count = len(attachments)
        if indexes != [0] or count != 1:  # as nearly all have it
            if not isinstance(indexes, list) or not all(type(each) is int and 0 <= each < count for each in indexes):
                continue
            if len(set(indexes)) != len(indexes):
                continue
        parts: list[Any] = [attachments[each] for each in indexes]
        try:
            if _SHARED in meta:
                for place in meta.pop(_SHARED):
                    parts[place] = read_handle(parts[place])
            envelope.body = Parcel(envelope.body, parts).unwrapped()
        except _UNREADABLE:
            continue
        sound.append(envelope)
    return sound, len(envelopes) - len(sound)


def _put_back(code: int, data: memoryview, take: Callable[[int], Buffer]) -> Any:
    if code == EXT_BUFFER:
        return bytes(take(index_of(data)))
    if code == EXT_ARRAY:
        dtype, shape, order, part = _plain.decode(data)
        if type(part) is int:
            return msgspec.msgpack.Ext(EXT_ARRAY, _encoder.encode((dtype, shape, order, take(part))))
    return msgspec.msgpack.Ext(code, bytes(data))


Body = msgspec.Raw | Parcel  # of a received envelope

_FIXEXT2: Final = 0xD5
_ONE_BUFFER: Final = msgspec.Raw(bytes((_FIXEXT2, EXT_BUFFER, 0, 0)))
_ONE_BODY: Final = msgspec.Raw(bytes((_FIXEXT2, EXT_BODY, 0, 0)))

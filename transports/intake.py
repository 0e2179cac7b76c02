"""The receiving half that listeners and connections of every transport share: decode, count, hand up."""

import logging
from collections.abc import Sequence

from transports.errors import RemoteProtocolError
from transports.limits import Limits
from transports.packing import PACKED, unpack
from transports.parcel import Parcel, whole
from transports.shm.handles import weight
from transports.transport import Batch, Receive
from transports.wire.batch import decode_batch

__all__ = ("Intake",)

logger = logging.getLogger(__name__)


class Intake:
    """Turns frames into batches. What is not one is counted and dropped, whatever a peer sends; nothing is raised.

    Args:
        where: The endpoint, for the log.
        receive: Gets every batch.
        limits: For `attachments_max` and `frame_bytes_max`.
        with_parcels: Whether envelopes are given the attachments that they name. What is for the house itself has none.
    """

    def __init__(self, where: str, receive: Receive, limits: Limits, with_parcels: bool = True) -> None:
        self._where = where
        self._attachments_max = limits.attachments_max
        self._frame_bytes_max = limits.frame_bytes_max
        self._with_parcels = with_parcels
        self.receive = receive
        self.batches = 0
        self.messages = 0
        self.bytes = 0
        self.malformed = 0
        self.oversized = 0

    def take(
        self, source: bytes, frame: bytes | memoryview, attachments: Sequence[memoryview] = (), key: bytes | None = None
    ) -> None:
        """Decode one message and hand it up.

        Args:
            source: Routing id, empty on a dialled connection.
            frame: The batch frame.
            attachments: Frames behind it.
            key: The peer's public key.
        """
        size = len(frame)
        if size > self._frame_bytes_max:
            self.oversized += 1
            return
        try:
            if size and frame[0] == PACKED:
                frame = unpack(frame, self._frame_bytes_max)
                size = len(frame)  # credit counts what has to be held
        except RemoteProtocolError as error:
            self._drop(str(error))
            return
        if attachments:
            if len(attachments) > self._attachments_max:
                self._drop(f"{len(attachments)} attachments exceed attachments_max={self._attachments_max}")
                return
            size += sum(map(len, attachments))
        try:
            envelopes, malformed = decode_batch(frame)
        except RemoteProtocolError as error:
            self._drop(str(error))
            return
        weighs = 0
        if attachments and self._with_parcels:
            envelopes, unsound = whole(envelopes, attachments)
            weighs = sum(weight(each.body.attachments) for each in envelopes if type(each.body) is Parcel)
            malformed += unsound
            if not envelopes:
                self._drop("its attachments are not those that it names")
                return
        if malformed:
            self.malformed += malformed
        self.batches += 1
        self.messages += len(envelopes)
        self.bytes += size
        self.receive(Batch(source, envelopes, size + weighs, attachments, key, weighs > 0))

    def _drop(self, reason: str) -> None:
        # One line for the first and then for each doubling: a hostile peer must not be able to fill a disk.
        self.malformed += 1
        if self.malformed & (self.malformed - 1) == 0:
            logger.warning(
                "dropped a message received on %s: %s (%d malformed so far)", self._where, reason, self.malformed
            )

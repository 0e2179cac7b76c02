"""The receiving half of `fdn.bulk`: puts messages together from their pieces, within bounds.

Nothing is reserved for what a peer announces; memory grows with what has really come. The announced sizes are what is
counted against the bounds, so that transfers which were begun can all be finished.

The driver's duties: `on_piece` for each Piece of a living member, `on_gone` when a member is dead or has left, `tick`
when `next_deadline()` has come; send the answers, and hand up what is delivered.
"""

import collections
import dataclasses
from typing import Final

from blake3 import blake3

from fdn.runtime.bulk.messages import DIGEST_BYTES, Ack, Piece, Refuse, RefuseCode
from fdn.runtime.bulk.settings import BulkSettings
from topologies.errors import RemoteProtocolError

__all__ = ("BulkReceiver", "BulkReceiverStats", "Delivered")

_DONE_MAX: Final = 64  # of one peer: ids of transfers that are complete, so that a repeated last piece is known


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """A whole message has come. `body` belongs to the receiver of this from now on."""

    peer: str
    protocol: str
    body: bytearray


@dataclasses.dataclass(frozen=True, slots=True)
class BulkReceiverStats:
    """What is held, and counters since the start."""

    delivered: int  # messages that came whole
    pieces: int  # that added something
    repeated: int  # that we had already, or that did not follow on what we have
    refused: int
    expired: int  # transfers that were forgotten, because no more of them came or their peer is gone
    held: int  # transfers that are incomplete now
    held_bytes: int  # what has come of them


class _Assembly:
    __slots__ = ("body", "expires", "hasher", "protocol", "size")

    def __init__(self, piece: Piece) -> None:
        self.protocol = piece.protocol
        self.size = piece.size
        self.body = bytearray()
        self.hasher = blake3()
        self.expires = 0.0


class BulkReceiver:
    """See the module.

    Args:
        settings: See there.
    """

    def __init__(self, settings: BulkSettings) -> None:
        self._settings = settings
        self._held: dict[str, dict[int, _Assembly]] = {}
        self._done: dict[str, collections.deque[tuple[int, int]]] = {}  # (transfer, size)
        self._announced = 0
        self._n_delivered = self._n_pieces = self._n_repeated = self._n_refused = self._n_expired = 0

    def on_piece(self, peer: str, piece: Piece, now: float) -> tuple[Ack | Refuse, Delivered | None]:
        """Take in a piece.

        Returns:
            What to answer, and the message if it is whole now.

        Raises:
            RemoteProtocolError: No honest peer sends this; what we had of the transfer is dropped.
        """
        self._check(peer, piece)
        transfer = piece.transfer
        assembly = self._held.get(peer, {}).get(transfer)
        if assembly is None:
            if (transfer, piece.size) in self._done.get(peer, ()):
                self._n_repeated += 1
                return Ack(transfer, piece.size), None  # our Ack of its last piece was lost
            code = self._objection(peer, piece)
            if code is not None:
                self._n_refused += 1
                return Refuse(transfer, code), None
            if piece.offset:  # we have forgotten it, or were not there: from the beginning
                self._n_repeated += 1
                return Ack(transfer, 0), None
            assembly = self._begin(peer, piece)
        assembly.expires = now + self._settings.stale_s
        if piece.offset != len(assembly.body):
            self._n_repeated += 1
            return Ack(transfer, len(assembly.body)), None
        assembly.body += piece.data
        assembly.hasher.update(piece.data)
        self._n_pieces += 1
        if len(assembly.body) < assembly.size:
            return Ack(transfer, len(assembly.body)), None
        self._drop(peer, transfer)
        if assembly.hasher.digest() != piece.digest:
            self._n_refused += 1
            return Refuse(transfer, RefuseCode.CORRUPT), None
        self._done.setdefault(peer, collections.deque(maxlen=_DONE_MAX)).append((transfer, piece.size))
        self._n_delivered += 1
        return Ack(transfer, piece.size), Delivered(peer, assembly.protocol, assembly.body)

    def on_gone(self, peer: str) -> None:
        """A member is dead, has left or is forgotten: so is what it was sending."""
        for transfer in list(self._held.get(peer, ())):
            self._drop(peer, transfer)
            self._n_expired += 1
        self._done.pop(peer, None)

    def tick(self, now: float) -> None:
        """Forget what is stale."""
        stale = [
            (peer, transfer)
            for peer, assemblies in self._held.items()
            for transfer, assembly in assemblies.items()
            if assembly.expires <= now
        ]
        for peer, transfer in stale:
            self._drop(peer, transfer)
            self._n_expired += 1

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        return min((one.expires for held in self._held.values() for one in held.values()), default=None)

    def stats(self) -> BulkReceiverStats:
        assemblies = [assembly for held in self._held.values() for assembly in held.values()]
        return BulkReceiverStats(
            delivered=self._n_delivered,
            pieces=self._n_pieces,
            repeated=self._n_repeated,
            refused=self._n_refused,
            expired=self._n_expired,
            held=len(assemblies),
            held_bytes=sum(len(assembly.body) for assembly in assemblies),
        )

    def _check(self, peer: str, piece: Piece) -> None:
        """What is wrong with a piece whatever came before it, or because of that."""
        end = piece.offset + len(piece.data)
        assembly = self._held.get(peer, {}).get(piece.transfer)
        if end > piece.size:
            flaw = f"bytes up to {end} of a message of {piece.size}"
        elif len(piece.digest) != (DIGEST_BYTES if end == piece.size else 0):
            flaw = f"a digest of {len(piece.digest)} bytes at {end} of {piece.size}"
        elif assembly is not None and (assembly.size, assembly.protocol) != (piece.size, piece.protocol):
            flaw = (
                f"{piece.size} bytes of {piece.protocol} in a transfer of {assembly.size} bytes of {assembly.protocol}"
            )
        else:
            return
        if assembly is not None:
            self._drop(peer, piece.transfer)
        raise RemoteProtocolError(f"piece of bulk transfer {piece.transfer} from {peer}: {flaw}")

    def _objection(self, peer: str, piece: Piece) -> RefuseCode | None:
        settings, held = self._settings, self._held.get(peer, {})
        if piece.size > min(settings.transfer_bytes_max, settings.taken_bytes_max, settings.taken_total_bytes_max):
            return RefuseCode.TOO_LARGE
        announced = sum(assembly.size for assembly in held.values())
        if (
            len(held) >= settings.taken_max
            or announced + piece.size > settings.taken_bytes_max
            or self._announced + piece.size > settings.taken_total_bytes_max
        ):
            return RefuseCode.BUSY
        return None

    def _begin(self, peer: str, piece: Piece) -> _Assembly:
        assembly = self._held.setdefault(peer, {})[piece.transfer] = _Assembly(piece)
        self._announced += piece.size
        return assembly

    def _drop(self, peer: str, transfer: int) -> None:
        held = self._held[peer]
        self._announced -= held.pop(transfer).size
        if not held:
            del self._held[peer]

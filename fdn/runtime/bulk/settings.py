"""Bounds and pace of bulk transfers."""

import dataclasses
import math

__all__ = ("BulkSettings",)

_KIB = 1024
_MIB = 1024 * _KIB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """How one node sends and takes in bulk. The two sides need not agree, but for `piece_bytes`, which is the wire's.

    Attributes:
        whole_bytes_max: A core's message up to this long goes whole, without any of this. Lower costs round trips,
            higher lets one message hold up others for longer.
        piece_bytes: Bytes of one piece; 64 KiB at most. Smaller ones delay others less, and a transfer more: it takes
            a round trip for each.
        transfer_bytes_max: Longest message, sent or taken in.
        active_max: Transfers to one peer that take turns piece by piece; further ones wait in the order of sending.
        queue_transfers_max: Transfers to one peer, those that wait included; past it a message is dropped and counted.
        queue_bytes_max: The same in bytes.
        taken_max: Transfers that one peer may have under way to us; past it a piece is refused as busy.
        taken_bytes_max: The same in bytes, as announced.
        taken_total_bytes_max: The same over all peers.
        ack_timeout_s: A piece that is not acknowledged in this time is sent again.
        attempts_max: Times in a row that a piece may go unacknowledged, or be refused as busy, before its transfer is
            given up.
        retry_s: Pause after a refusal as busy.
        stale_s: A transfer to us of which no piece has come for so long is forgotten. Longer lets a transfer go on
            where it was after a longer absence, and holds its memory meanwhile.
    """

    whole_bytes_max: int = 16 * _KIB
    piece_bytes: int = 64 * _KIB
    transfer_bytes_max: int = 64 * _MIB
    active_max: int = 4
    queue_transfers_max: int = 64
    queue_bytes_max: int = 64 * _MIB
    taken_max: int = 4
    taken_bytes_max: int = 64 * _MIB
    taken_total_bytes_max: int = 256 * _MIB
    ack_timeout_s: float = 2.0
    attempts_max: int = 5
    retry_s: float = 1.0
    stale_s: float = 30.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.piece_bytes > 64 * _KIB:
            raise ValueError(f"piece_bytes is {self.piece_bytes}; receivers take 65536 at most")

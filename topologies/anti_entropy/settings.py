"""Settings of anti-entropy: units, and what is traded by changing them."""

import dataclasses
import math

__all__ = ("AntiEntropySettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AntiEntropySettings:
    """How replicas are compared. All nodes of a cluster should agree.

    Attributes:
        interval_s: One round with a random peer this often, jittered by a quarter. Shorter repairs sooner; a round
            between equal replicas costs one message of some twenty bytes.
        pause_s: The pause before the next round with a peer when one found more than it could take.
        parts_max: Parts of the tree in one message; more are not read, and found in the next round. And no more entries
            are sent for one message than `list_entries_max` for each of so many parts.
        list_entries_max: A part with at most this many entries is listed instead of being divided again: fewer round
            trips, more bytes.
        message_bytes_max: Entries are sent in messages of about this size, 64 KiB as all bulk of the control plane.
        entry_bytes_max: Larger entries, key and value together, are refused here, and ignored from others.
        entries_max: Past it new keys are refused here, and ignored from others.
    """

    interval_s: float = 10.0
    pause_s: float = 0.05
    parts_max: int = 256
    list_entries_max: int = 16
    message_bytes_max: int = 64 << 10
    entry_bytes_max: int = 64 << 10
    entries_max: int = 1_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")

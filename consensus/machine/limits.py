"""The bounds of a state machine. They decide what commands do, so all members of a group must have the same."""

import dataclasses

__all__ = ("MachineLimits",)


@dataclasses.dataclass(frozen=True, slots=True)
class MachineLimits:
    """What a command may not exceed; beyond each, it fails with `Failure` and changes nothing.

    Attributes:
        key_bytes_max: Octets of a key in UTF-8.
        value_bytes_max: Octets of a value. Each is in the log, in every snapshot and in memory on every voter.
        operations_max: Comparisons, and operations, of one transaction.
        rows_max: Keys that one read returns; more are told by `KeyValue` rows being cut off, and read from the next.
        bytes_max: Keys and values together.
        sessions_max: Sessions that are open at a time.
        window_max: Requests of one session whose answers it has not acknowledged; so many answers are kept for it.
        ttl_max_s: The longest a session may be silent.
    """

    key_bytes_max: int = 1024
    value_bytes_max: int = 1024 * 1024
    operations_max: int = 128
    rows_max: int = 1000
    bytes_max: int = 256 * 1024 * 1024
    sessions_max: int = 65_536
    window_max: int = 256
    ttl_max_s: float = 86_400.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)} is no bound; give a positive number")

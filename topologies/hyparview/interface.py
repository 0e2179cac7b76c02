"""What HyParView tells of itself; its inputs and effects are those of every overlay (`topologies.overlay`)."""

import dataclasses

__all__ = ("HyParViewStats",)


@dataclasses.dataclass(frozen=True, slots=True)
class HyParViewStats:
    """Sizes now, and counters since the start."""

    active: int
    passive: int
    links: int  # held now, for whatever reason
    joins: int  # of others, through us
    asked: int  # whom we asked to be neighbours
    refused: int  # and who had no room
    failed: int  # and who could not be reached, or did not answer in time
    demoted: int  # neighbours that had to make room
    lost: int  # neighbours whose link or process failed
    stale: int  # messages about a neighbourship that is over
    ignored: int  # absurd peers, unknown messages

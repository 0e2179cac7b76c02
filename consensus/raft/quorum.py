"""Majorities, of one set of voters and of a joint configuration's two.

One function answers three questions of a leader: up to which index is the log on a majority, since when was a majority
heard, and which round of heartbeats did a majority answer. Each is the greatest value that a majority reaches.
"""

import enum
from collections.abc import Callable, Mapping
from typing import TypeVar

from consensus.identity import NodeId
from consensus.raft.configuration import Configuration

__all__ = ("VoteResult", "agreed", "vote_result")

Number = TypeVar("Number", bound=float)


class VoteResult(enum.Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def agreed(configuration: Configuration, value: Callable[[NodeId], Number]) -> Number:
    """The greatest value that a majority of each half reaches.

    Args:
        configuration: With voters; learners are not asked.
        value: What one voter reached.

    See dissertation section 3.5 (commitment), and section 4.3 for joint configurations.
    """
    return min(_majority([value(node) for node in half]) for half in configuration.halves)


def vote_result(configuration: Configuration, votes: Mapping[NodeId, bool]) -> VoteResult:
    """Decide an election from the votes so far.

    Args:
        configuration: With voters; votes of others do not count.
        votes: Answers received; missing keys are still awaited.

    See dissertation section 3.4, and section 4.3 for joint configurations.
    """
    won = True
    for half in configuration.halves:
        needed = len(half) // 2 + 1
        granted = sum(votes.get(node) is True for node in half)
        refused = sum(votes.get(node) is False for node in half)
        if len(half) - refused < needed:
            return VoteResult.LOST
        won = won and granted >= needed
    return VoteResult.WON if won else VoteResult.PENDING


def _majority(values: list[Number]) -> Number:
    values.sort(reverse=True)
    return values[len(values) // 2]

"""Time, order and chance of one simulated run.

Everything that happens is an entry in one heap, ordered by its time and then by when it was put there: no thread, no
event loop, no real clock. All chance comes from generators that are made from the seed and the name of what they
decide, so that switching one fault on does not shift the dice of another, and a seed gives the same run in any process
whatever `PYTHONHASHSEED` is.

What happens is noted. The notes are hashed (`digest`: two runs with the same digest were the same run), and the last
of them are kept for the report of a run that failed.
"""

import collections
import copy
import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any, Final

__all__ = ("STARTS_AT", "Note", "World")

STARTS_AT: Final = 1000.0  # not 0, which too many programs mistake for "never"
_NOTES_PER_HASH: Final = 512  # hashing in lumps costs a third of hashing each

Note = tuple[float, str, tuple[Any, ...]]  # when, what, its facts


class World:
    """One run.

    Args:
        seed: All chance comes from it.
        notes_max: How many of the last notes are kept; older ones are only in the digest.
    """

    def __init__(self, seed: int, notes_max: int = 200) -> None:
        self.seed = seed
        self.now = STARTS_AT
        self.event_count = 0
        self._queue: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0
        self._rngs: dict[str, random.Random] = {}
        self._checks: list[Callable[[], object]] = []
        self._notes: collections.deque[Note] = collections.deque(maxlen=notes_max)
        self._unhashed: list[Note] = []
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since the start."""
        return self.now - STARTS_AT

    def rng(self, purpose: str) -> random.Random:
        """The generator for one purpose: the same object each time it is asked for."""
        rng = self._rngs.get(purpose)
        if rng is None:
            # Seeded with text, which Python digests with SHA-512 and not with `hash`.
            rng = self._rngs[purpose] = random.Random(f"{self.seed}/{purpose}")
        return rng

    def at(self, when: float, act: Callable[..., object], *arguments: Any) -> None:
        """Have something done at this time; what is put in first comes first.

        Raises:
            ValueError: The time has passed.
        """
        if when < self.now:
            raise ValueError(f"{act!r} was to happen at {when}, and it is {self.now}; nothing happens in the past")
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, act, arguments))

    def after(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> None:
        """Have something done so many seconds from now."""
        self.at(self.now + delay_s, act, *arguments)

    def run(self, seconds: float, until: Callable[[], object] | None = None) -> float | None:
        """Let time pass.

        Args:
            seconds: How much at most.
            until: Asked after everything that happens; ends the run.

        Returns:
            How many seconds passed before `until` was true; None if it never was, or there was none.
        """
        started, end = self.now, self.now + seconds
        queue, checks = self._queue, self._checks
        if until is not None and until():
            return 0.0
        while queue and queue[0][0] <= end:
            self.now, _, act, arguments = heapq.heappop(queue)
            self.event_count += 1
            act(*arguments)
            for check in checks:
                check()
            if until is not None and until():
                return self.now - started
        self.now = end
        return None

    def always(self, check: Callable[[], object]) -> None:
        """Have an invariant checked after everything that happens; it raises when it is broken."""
        self._checks.append(check)

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        other = memo[id(self)] = object.__new__(World)
        for name, value in vars(self).items():
            setattr(other, name, value.copy() if name == "_hash" else copy.deepcopy(value, memo))
        return other

    def note(self, what: str, *facts: Any) -> None:
        """Write down what happened.

        Args:
            what: In a word or two.
            facts: Strings, numbers, or values with a `repr` that is the same in every process: no sets, no addresses.
        """
        note = (self.now, what, facts)
        self._notes.append(note)
        self._unhashed.append(note)
        if len(self._unhashed) >= _NOTES_PER_HASH:
            self._hash_notes()

    def notes(self) -> list[Note]:
        """The last notes, oldest first."""
        return list(self._notes)

    def digest(self) -> str:
        """What identifies the run so far: equal for equal runs."""
        self._hash_notes()
        return self._hash.copy().hexdigest()

    def _hash_notes(self) -> None:
        for note in self._unhashed:  # one at a time: the digest must not depend on when it was asked for
            self._hash.update(repr(note).encode())
        self._unhashed.clear()

"""How well we ourselves are: a node that is slow doubts itself before it doubts others. Lifeguard section IV-A.

A member that gets no answers may be the one at fault: it runs late, or its own network is bad. What it sees of that
moves a score, and the score stretches its probes, so that it accuses later, and less. A success takes one off. A failed
probe adds one for each helper that ought to have said "no answer from there either" (`Nack`) and did not, as such
silence is more likely ours; without helpers it adds one. Having to refute adds one: somebody else did not hear us.
"""

__all__ = ("Awareness",)


class Awareness:
    """The local health score, from 0 (well) to `score_max`.

    Args:
        score_max: The worst; timers are stretched by up to this plus one.
    """

    __slots__ = ("_max", "score")

    def __init__(self, score_max: int) -> None:
        self._max = score_max
        self.score = 0

    @property
    def stretch(self) -> int:
        """By how much the probe interval and the acknowledgement timeout are multiplied."""
        return self.score + 1

    def answered(self) -> None:
        """A probe of ours was answered."""
        self.score = max(0, self.score - 1)

    def unanswered(self, nacks_expected: int, nacks_heard: int) -> None:
        """A probe of ours failed, though so many helpers were to say at least that they had no answer either."""
        self._worsen(nacks_expected - nacks_heard if nacks_expected else 1)

    def accused(self) -> None:
        """We had to refute."""
        self._worsen(1)

    def _worsen(self, by: int) -> None:
        self.score = min(self._max, self.score + max(0, by))

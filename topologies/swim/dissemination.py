"""News on its way: which claims still have to be told, and to how many. SWIM section 4.1.

Each claim is sent retransmit_multiplier * ceil(log10(n + 1)) times, riding on messages that go out anyway; those
sent least often go first, so that fresh news is not held up by old.
"""

import dataclasses
import math

from topologies.identity import NodeId
from topologies.swim.messages import Claim

__all__ = ("Dissemination", "transmissions_max")


def transmissions_max(retransmit_multiplier: int, member_count: int) -> int:
    """How often a claim is sent in a cluster of this size."""
    return retransmit_multiplier * max(1, math.ceil(math.log10(member_count + 1)))


@dataclasses.dataclass(slots=True)
class _News:
    claim: Claim
    sent: int = 0


class Dissemination:
    """The bounded queue of claims to piggyback.

    Args:
        subjects_max: Members that may be in the queue. Past it what was sent most often is dropped: it is known to
            most by now, and push-pull tells the rest.
    """

    def __init__(self, subjects_max: int) -> None:
        self._max = subjects_max
        # Of one subject only the latest claim, and for a suspicion those of further accusers, which confirm it.
        self._news: dict[NodeId, dict[NodeId, _News]] = {}

    def __bool__(self) -> bool:
        return bool(self._news)

    def __len__(self) -> int:
        return sum(map(len, self._news.values()))

    def put(self, claim: Claim) -> None:
        """Spread a claim that just won; what was being said of its subject is out of date."""
        self._news.pop(claim.subject, None)
        if len(self._news) >= self._max:
            stalest = max(self._news, key=lambda subject: min(news.sent for news in self._news[subject].values()))
            del self._news[stalest]
        self._news[claim.subject] = {claim.by: _News(claim)}

    def put_confirmation(self, claim: Claim) -> None:
        """Spread a further accuser's word beside that of the first. The caller bounds how many."""
        self._news.setdefault(claim.subject, {}).setdefault(claim.by, _News(claim))

    def forget(self, subject: NodeId) -> None:
        self._news.pop(subject, None)

    def pick(self, count_max: int, sent_max: int) -> list[Claim]:
        """Up to `count_max` claims for one message, least sent first, then latest; each counts as sent once more."""
        candidates = [news for said in reversed(self._news.values()) for news in said.values()]
        candidates.sort(key=lambda news: news.sent)
        picked = candidates[:count_max]
        for news in picked:
            news.sent += 1
            if news.sent >= sent_max:
                self._drop(news.claim)
        return [news.claim for news in picked]

    def _drop(self, claim: Claim) -> None:
        said = self._news[claim.subject]
        del said[claim.by]
        if not said:
            del self._news[claim.subject]

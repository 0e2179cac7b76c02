"""Settings of HyParView: units, where the defaults come from, and what is traded by changing them."""

import dataclasses
import math

from topologies.hyparview.messages import PEERS_MAX

__all__ = ("HyParViewSettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HyParViewSettings:
    """How a node keeps its views. All nodes of a cluster should agree.

    Defaults are the paper's (HyParView, section 5.1) where nothing else is said.

    Attributes:
        active_max: Neighbours, fan-out plus one; log10(n) + 1 at 10,000 nodes. More of them survive more failures at
            once and cost links, and copies of every flooded message. Past it a neighbour is demoted for each new one.
        passive_max: Peers remembered for when neighbours fail; 6 (log10(n) + 1). More of them survive larger
            failures and cost memory. Past it one of them is forgotten for each new one.
        arwl: Active random walk length: hops that a `ForwardJoin` walks.
        prwl: Passive random walk length: hops before its end at which the new node enters a passive view.
        shuffle_walk: Hops that a `Shuffle` walks. The paper names no figure; arwl is usual.
        shuffle_active_count: Neighbours in a `Shuffle` (ka).
        shuffle_passive_count: Passive peers in a `Shuffle` (kp).
        shuffle_interval_s: One shuffle is started this often, jittered by a quarter (the paper's cycle). Shorter
            refreshes passive views sooner, at about 14 messages a node and interval.
        request_timeout_s: Dialling a peer and asking it to be a neighbour may take this long.
        refusals_max: Refused this often, a node that has neighbours stops asking for more until the next retry: those
            who refuse have full views, so the overlay is dense enough. An isolated node is not refused.
        retry_min_s: The first pause before asking again; doubles up to `retry_max_s` while nothing comes of it.
        retry_max_s: The longest pause. Shorter fills the last slots sooner and dials more.
        drain_timeout_s: A demoted neighbour's link is closed when it has confirmed that all has arrived, or after this
            long.
        draining_max: Demoted neighbours whose links still drain. Past it nobody is demoted: who joins is sent on to
            another node. Those that demote us, and late answers, may add twice active_max; past that the oldest link
            is closed at once.
        mix_interval_s: A node with a full view trades one neighbour for a random peer this often, jittered by half,
            so that two halves of an overlay that know each other, and have no reason to link, do. Costs about four
            link changes in the cluster each time. Infinite for never, as in the paper.
        mix_fan: Of a member that comes back to life, or is new, about this many nodes ask at random to become
            neighbours: the links that join the sides of a healed partition.
        contacts_max: Members remembered to join through, a random sample of all; kept when dialling them fails.
        gone_max: Dead and left members remembered, so that shuffles do not bring them back. Past it the oldest is
            forgotten, and may be dialled in vain once more by each node.
    """

    active_max: int = 5
    passive_max: int = 30
    arwl: int = 6
    prwl: int = 3
    shuffle_walk: int = 6
    shuffle_active_count: int = 3
    shuffle_passive_count: int = 4
    shuffle_interval_s: float = 10.0
    request_timeout_s: float = 5.0
    refusals_max: int = 4
    retry_min_s: float = 1.0
    retry_max_s: float = 60.0
    drain_timeout_s: float = 2.0
    draining_max: int = 16
    mix_interval_s: float = 600.0
    mix_fan: float = 2.0
    contacts_max: int = 16
    gone_max: int = 1024

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0 or (math.isinf(value) and field.name != "mix_interval_s"):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.prwl > self.arwl:
            raise ValueError(
                f"prwl is {self.prwl}, arwl {self.arwl}; a walk must pass its passive hop before its end, so that "
                "a new node enters passive views at all"
            )
        if self.shuffle_active_count + self.shuffle_passive_count >= PEERS_MAX:
            raise ValueError(
                f"a shuffle of {self.shuffle_active_count} active and {self.shuffle_passive_count} passive peers is "
                f"too long; receivers read {PEERS_MAX} with the sender itself"
            )
        if self.retry_min_s > self.retry_max_s:
            raise ValueError(
                f"retry_min_s is {self.retry_min_s}, retry_max_s {self.retry_max_s}; the least must not be above the "
                "most"
            )

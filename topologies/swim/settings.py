"""Settings of SWIM: units, where the defaults come from, and what is traded by changing them."""

import dataclasses
import math

from topologies.swim.messages import CLAIMS_MAX

__all__ = ("SwimSettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SwimSettings:
    """How a node watches the others. All nodes of a cluster should agree.

    Defaults are `lan()`, which are memberlist's DefaultLANConfig where nothing else is said.

    Attributes:
        probe_interval_s: One member is probed each interval (SWIM's protocol period). Raising it costs detection time
            and saves messages: the load is about 2 messages per member and interval, whatever the cluster's size.
        ack_timeout_s: When helpers are asked. Raising it saves PingReqs on slow networks and leaves the helpers less of
            the interval; keep it above the 99th percentile of the round trip.
        indirect_count: Helpers asked (k of the paper). More of them see through more loss and cost more messages.
        stranger_intervals: Under an overlay of few links, a member that is no neighbour is probed every so many probe
            intervals, jittered by half. It finds those who died together with all their neighbours, each after about
            this many intervals whatever the cluster's size.
        suspicion_multiplier: Least time to refute, in probe intervals times max(1, log10 of the cluster's size).
            Raising it lowers false positives and delays every death not proved by a refused connection. Minus 2, it is
            the number of confirmations that bring the time down from its highest to its least (Lifeguard's k).
        suspicion_max_multiplier: Most time to refute, in least times (Lifeguard's beta), while nobody confirms.
        health_score_max: How much a node that gets no answers doubts itself (Lifeguard's S, less one): its probes take
            up to this plus one times as long. Raising it spares the others when we are slow, and lets us find fewer of
            their deaths meanwhile; others find them. 0 for never.
        tells_suspects: What is held against a member rides on whatever is sent to it (Lifeguard's buddy system), so
            that it can refute at once. Without it there is no reason but to measure what it brings.
        retransmit_multiplier: Each claim is sent this often times ceil(log10(n + 1)). Raising it makes news surer and
            messages longer.
        gossip_interval_s: News that has not been sent often enough goes out on its own this often. Nothing is sent
            when there is no news.
        gossip_fan: Members told each time.
        push_pull_interval_s: Everything is exchanged with one random member this often, jittered by a quarter and
            stretched above 32 members. It repairs what gossip lost; shorter costs bytes in proportion to the cluster.
        statements_max: What was last said of one member, and by whom, that is kept for people. About 150 bytes each.
        claims_per_message_max: Longer messages are split, or wait. A claim takes about 200 bytes.
        push_pull_claims_max: Claims in one message of such an exchange. Longer ones are for a driver that sends large
            messages in pieces; shorter ones go out all at once.
        forget_dead_s: Dead and left members are remembered this long: for dialling after a partition, and so that old
            news about them is known to be old. Serf's reconnect timeout. Costs memory; bounded by `members_max`.
        members_max: Members remembered, dead and left included. Past it the longest dead go first, then news of new
            members is refused and counted.
    """

    probe_interval_s: float = 1.0
    ack_timeout_s: float = 0.5
    indirect_count: int = 3
    stranger_intervals: float = 10.0
    suspicion_multiplier: int = 4
    suspicion_max_multiplier: int = 6
    health_score_max: int = 7
    tells_suspects: bool = True
    retransmit_multiplier: int = 4
    gossip_interval_s: float = 0.2
    gossip_fan: int = 3
    push_pull_interval_s: float = 30.0
    statements_max: int = 16
    claims_per_message_max: int = 16
    push_pull_claims_max: int = 512
    forget_dead_s: float = 86400.0
    members_max: int = 16384

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            may_be_0 = field.name in ("health_score_max", "tells_suspects")
            if not (math.isfinite(value) and (value > 0 or (may_be_0 and value == 0))):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.ack_timeout_s >= self.probe_interval_s:
            raise ValueError(
                f"ack_timeout_s is {self.ack_timeout_s}, probe_interval_s {self.probe_interval_s}; "
                "the timeout must be shorter, so that helpers have the rest of the interval"
            )
        for name in ("claims_per_message_max", "push_pull_claims_max"):
            if getattr(self, name) > CLAIMS_MAX:
                raise ValueError(f"{name} is {getattr(self, name)}; receivers read {CLAIMS_MAX} at most")

    @classmethod
    def local(cls) -> "SwimSettings":
        """Loopback: a round trip takes well under a millisecond, so silence of 100 ms means something."""
        return cls(
            probe_interval_s=0.25,
            ack_timeout_s=0.1,
            gossip_interval_s=0.05,
            push_pull_interval_s=15.0,  # memberlist's DefaultLocalConfig
            forget_dead_s=600.0,  # on a developer's machine most of the dead never come back
        )

    @classmethod
    def lan(cls) -> "SwimSettings":
        """One site."""
        return cls()

    @classmethod
    def wan(cls) -> "SwimSettings":
        """Several sites (memberlist's DefaultWANConfig)."""
        return cls(
            probe_interval_s=5.0,
            ack_timeout_s=3.0,
            suspicion_multiplier=6,
            gossip_interval_s=0.5,
            gossip_fan=4,
            push_pull_interval_s=60.0,
        )

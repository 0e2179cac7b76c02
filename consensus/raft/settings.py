"""Settings of Raft: units, where the defaults come from, and what is traded by changing them."""

import dataclasses
import math

__all__ = ("RaftSettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """How a group elects, replicates and compacts. All members should agree, save on `priority`.

    Attributes:
        heartbeat_interval_s: A leader is heard this often. Shorter notices a silent leader sooner and costs a message a
            follower each time.
        election_timeout_s: T. A follower that has heard no leader for T up to 2T asks for votes; a leader that has not
            heard a majority for T steps down; a voter that heard the leader within T refuses to vote. Raising it
            rides out longer pauses and delays every failover that no closed connection announces. Dissertation
            section 3.9 asks for ten times the round trip; keep it at several heartbeats.
        stagger_s: Followers that lost their connection to the leader ask for votes this far apart, freshest first.
            Should exceed a round trip and an fsync, so that the first has won before the second asks.
        priority: Of the followers that hold everything committed, higher ones ask first. Only an order, never a veto.
        lease_s: How long voters promise a leader that they elect no other, counted from each heartbeat; 0 for none.
            With it lease reads need no round trip, and a closed connection no longer speeds up an election.
            At most `election_timeout_s`.
        clock_drift_max: How far two nodes' clocks may drift apart, as a share of the time passed. The leader takes that
            much off its lease. A machine past this bound may read stale values under a lease, never with ReadIndex.
        append_bytes_max: Entries in one message. A single larger entry goes alone.
        append_entries_max: Entries in one message.
        inflight_messages_max: Appends on the way to one follower. Past it the follower waits for its answers.
        inflight_bytes_max: The same, in bytes.
        uncommitted_bytes_max: Entries of a leader that are not yet committed, or not yet on its own disk. Past it
            proposals are refused; the one that crosses it is taken.
        proposal_bytes_max: One proposal. Larger ones are refused.
        apply_bytes_max: Committed entries handed over in one effect. More of them make more effects.
        reads_max: Reads that wait for their confirmation, on one node. Past it reads are refused.
        snapshot_after_bytes: A snapshot is asked for when this much was applied since the last one. Raising it costs
            memory and restart time, and saves snapshots.
        snapshot_after_entries: The same, in entries.
        trailing_entries: Entries kept behind the snapshot, so that a follower a little behind needs no snapshot.
        snapshot_chunk_bytes: A snapshot travels in pieces of this size, one at a time to each follower.
        snapshot_chunk_timeout_s: A piece without an answer is asked about again after this long.
        catch_up_timeout_s: A newcomer that has not caught up by then does not become a voter; it stays a learner.
        history_count: Role changes kept, with their causes.
    """

    heartbeat_interval_s: float = 0.05
    election_timeout_s: float = 0.25
    stagger_s: float = 0.01
    priority: int = 0
    lease_s: float = 0.0
    clock_drift_max: float = 0.05
    append_bytes_max: int = 262_144
    append_entries_max: int = 4096
    inflight_messages_max: int = 64
    inflight_bytes_max: int = 4_194_304
    uncommitted_bytes_max: int = 16_777_216
    proposal_bytes_max: int = 1_048_576
    apply_bytes_max: int = 1_048_576
    reads_max: int = 16_384
    snapshot_after_bytes: int = 67_108_864
    snapshot_after_entries: int = 100_000
    trailing_entries: int = 10_000
    snapshot_chunk_bytes: int = 65_536
    snapshot_chunk_timeout_s: float = 1.0
    catch_up_timeout_s: float = 60.0
    history_count: int = 32

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "priority":
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.election_timeout_s < 2 * self.heartbeat_interval_s:
            raise ValueError(
                f"election_timeout_s is {self.election_timeout_s}, heartbeat_interval_s {self.heartbeat_interval_s}; "
                "the timeout must be twice the interval at least, so that one lost heartbeat is no lost leader"
            )
        if self.lease_s > self.election_timeout_s:
            raise ValueError(
                f"lease_s is {self.lease_s}, election_timeout_s {self.election_timeout_s}; "
                "voters promise for one election timeout at most"
            )
        if self.clock_drift_max >= 1:
            raise ValueError(f"clock_drift_max is {self.clock_drift_max}; it is a share and must be below 1")


_MAY_BE_ZERO = frozenset({"lease_s", "clock_drift_max", "trailing_entries"})

"""Settings of Plumtree: units, where the defaults come from, and what is traded by changing them."""

import dataclasses
import math

__all__ = ("PlumtreeSettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlumtreeSettings:
    """How a node broadcasts. All nodes of a cluster should agree.

    Attributes:
        graft_timeout_s: How long an announced message may be on its way by the tree before it is asked for (T1). The
            paper wants it above the overlay's delivery time. Longer repairs later; shorter asks for what is coming.
        graft_retry_s: How long one announcer may take to answer before the next is asked (T2), about one round trip.
        ihave_interval_s: Announcements are collected this long, so that one message carries many; 0 sends each input's
            at once. Longer saves messages and delays repair.
        ihave_batch_max: Past this many for one peer they go out at once.
        threshold: A lazy neighbour whose way to the root is this many hops shorter takes the place of the eager one
            on that root's own tree (the paper's figure for one sender).
        shared_threshold: The same on the tree that roots share: higher, since what is short for one is long for
            another (the paper's figure for many senders).
        own_tree_after: A root has its messages travel on a tree of its own after this many of them; it begins as the
            shared tree, so that nothing is flooded. Fewer gives shorter ways to rare senders and costs state.
        trees_max: Trees of single roots remembered; about 100 bytes each and lazy neighbour. Past it the one that was
            unused for longest begins anew.
        received_window: Of each root, numbers below its highest that are told apart. A message that comes later than
            this many others of its root is taken for one that was seen.
        roots_max: Roots whose numbers are remembered, past it the one that was silent for longest is forgotten: a
            late copy of one of its messages would be delivered once more.
        store_max: Messages kept for those who ask for them.
        store_bytes_max: And their payloads. Past either the oldest go; who asks for one of them then needs
            anti-entropy.
        missing_max: Announced messages waited for. Past it announcements of others are ignored and counted.
        payload_bytes_max: Larger payloads are refused here, and ignored from others.
    """

    graft_timeout_s: float = 0.5
    graft_retry_s: float = 0.1
    ihave_interval_s: float = 0.1
    ihave_batch_max: int = 256
    threshold: int = 3
    shared_threshold: int = 7
    own_tree_after: int = 8
    trees_max: int = 32
    received_window: int = 1024
    roots_max: int = 16384
    store_max: int = 4096
    store_bytes_max: int = 8 << 20
    missing_max: int = 4096
    payload_bytes_max: int = 64 << 10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            may_be_0 = field.name in ("ihave_interval_s", "own_tree_after") and value == 0
            if not (math.isfinite(value) and (value > 0 or may_be_0)):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.graft_retry_s > self.graft_timeout_s:
            raise ValueError(
                f"graft_retry_s is {self.graft_retry_s}, graft_timeout_s {self.graft_timeout_s}; one round trip must "
                "not be longer than the way through the overlay"
            )
        if self.store_bytes_max < self.payload_bytes_max:
            raise ValueError(
                f"store_bytes_max is {self.store_bytes_max}, payload_bytes_max {self.payload_bytes_max}; the store "
                "must hold one payload at least"
            )

"""Who votes: configurations, and the steps from one to the next through a joint one.

A configuration takes effect when it is *appended*, committed or not (dissertation section 4.1), and is taken back when
its entry is truncated. Between two sets of voters lies a joint configuration (section 4.3): both the voters to come and
the outgoing ones must agree, on elections and on commits, so there is no moment with two disjoint majorities. Every
change of voters goes that way, also of a single one: one road is easier to trust than two.

A voter that is demoted stays an outgoing voter while the configuration is joint and becomes a learner on leaving it
(`learners_next`): nobody is voter and learner at once.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from consensus.errors import RemoteProtocolError
from consensus.identity import NodeId

__all__ = ("MEMBERS_MAX", "Configuration", "decode", "encode", "enter", "flaw", "leave", "with_learners")

MEMBERS_MAX: Final = 256  # voters and learners together; past it a configuration is refused
_ID_CHARS_MAX: Final = 256


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Voters and learners, each sorted.

    Attributes:
        voters: Who votes; of a joint configuration, who will.
        learners: Who receives the log and does not count.
        outgoing: Of a joint configuration, who voted before: both majorities are needed. Else empty.
        learners_next: Outgoing voters that become learners when the joint configuration is left.
    """

    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def halves(self) -> tuple[tuple[NodeId, ...], ...]:
        """The sets of which a majority each is needed."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    @property
    def members(self) -> frozenset[NodeId]:
        return frozenset((*self.voters, *self.outgoing, *self.learners))

    def is_voter(self, node: NodeId) -> bool:
        return node in self.voters or node in self.outgoing


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Configuration] = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    """The data of a configuration entry."""
    return _encoder.encode(configuration)


def decode(data: bytes) -> Configuration:
    """The configuration in an entry's data.

    Raises:
        RemoteProtocolError: There is none, or an absurd one.
    """
    try:
        configuration = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"no configuration: {error}; expected voters, learners, outgoing") from error
    problem = flaw(configuration)
    if problem is not None:
        raise RemoteProtocolError(f"{configuration} is no configuration: {problem}")
    return configuration


def enter(current: Configuration, voters: Iterable[NodeId], learners: Iterable[NodeId]) -> Configuration:
    """The next configuration on the way from `current`, which is not joint, to these voters and learners.

    Joint if the voters differ, else final at once: learners change no majority.
    """
    wanted, aside = frozenset(voters), frozenset(learners)
    if wanted == frozenset(current.voters):
        return Configuration(_sorted(wanted), _sorted(aside))
    outgoing = frozenset(current.voters)
    return Configuration(_sorted(wanted), _sorted(aside - outgoing), _sorted(outgoing), _sorted(aside & outgoing))


def leave(joint: Configuration) -> Configuration:
    """What follows a joint configuration once it is committed."""
    return Configuration(joint.voters, _sorted({*joint.learners, *joint.learners_next}))


def with_learners(current: Configuration, newcomers: Iterable[NodeId]) -> Configuration:
    """`current`, which is not joint, and these as learners."""
    return Configuration(current.voters, _sorted({*current.learners, *newcomers}))


def flaw(configuration: Configuration) -> str | None:
    """What makes a configuration absurd, or None if it may be used. One without voters is fine: nobody told us yet."""
    voters, learners = frozenset(configuration.voters), frozenset(configuration.learners)
    outgoing, learners_next = frozenset(configuration.outgoing), frozenset(configuration.learners_next)
    if outgoing and not voters:
        return "a joint configuration needs voters to come"
    if learners and not voters:
        return "learners need voters to learn from"
    if learners & (voters | outgoing):
        return f"{sorted(learners & (voters | outgoing))} both vote and learn"
    if not learners_next <= outgoing - voters:
        return f"{sorted(learners_next - (outgoing - voters))} are to be demoted and are no outgoing voters"
    everyone = voters | outgoing | learners
    if len(everyone) > MEMBERS_MAX:
        return f"{len(everyone)} members are more than {MEMBERS_MAX}"
    if any(not 0 < len(node) <= _ID_CHARS_MAX for node in everyone):
        return "a node id is empty or too long"
    return None


def _sorted(nodes: Collection[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(nodes))

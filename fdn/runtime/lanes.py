"""The links to one peer on one channel, side by side: each has its own connection, credit and link epoch."""

from collections.abc import Callable, Sequence
from typing import Final

from fdn.errors import Error, Overloaded, Unreachable
from fdn.runtime.flow.lane_choice import LaneTable, choose_lane
from fdn.runtime.link import Link
from fdn.runtime.send_options import SendOptions
from transports.transport import Connection
from transports.wire.envelope import Envelope, Kind

__all__ = ("Lanes",)

_FULL: Final = "the queue to its node was full"
_NO_ROOM: Final = "its handlers are slower than what is sent, or the network is: slow down, or add nodes that serve it"


class Lanes:
    """See the module. Lane 0 is the link that exists anyway; others are made and opened when they are first chosen.

    Order: messages of one key arrive in the order of sending (those of one priority, if they have any); so do all
    messages while there is only one lane. Between messages without a key on several lanes nothing is promised.

    Args:
        first: Lane 0.
        make: Makes the link of another lane.
        lanes_max: How many may be used; the peer may admit fewer.
        on_shed: Called with the node and each CALL that was dropped, while it waited, for a more urgent message.

    Attributes:
        links: Those that were made, by lane.
        table: The lanes of keys.
        why: Why the last message went where it went.
        last: Its lane.
    """

    def __init__(
        self,
        first: Link,
        make: Callable[[int], Link],
        lanes_max: int,
        on_shed: Callable[[str, Envelope, Error], None],
    ) -> None:
        self._on_shed = on_shed
        self.links: list[Link] = [first]
        self.table = LaneTable(1)
        self.why = ""
        self.last = 0
        self._make = make
        self._max = lanes_max
        self._limit = lanes_max  # what is wished for, at most `lanes_max`
        self._current = 0

    @property
    def active(self) -> int:
        """How many lanes are in use."""
        self._adjust()
        return self.table.active

    def limit(self, lanes: int) -> None:
        """Use at most so many from now on; at least one."""
        self._limit = max(1, min(lanes, self._max))
        self._adjust()

    def link(self, lane: int) -> Link:
        """The link of a lane, made if need be."""
        while len(self.links) <= lane:
            self.links.append(self._make(len(self.links)))
        return self.links[lane]

    def pick(self, options: SendOptions, size: int) -> Link:
        """The link that a message takes now; it may have to be opened, and waited for."""
        active = self.active
        if options.key is not None:
            self.why, self.last = "its key: order is kept", self.table.lane_of(options.key)
            return self.link(self.last)
        if active == 1:
            self.why, self.last = "the only lane", 0
            return self.links[0]
        self.link(active - 1)
        connections: Sequence[Connection | None] = [link.connection for link in self.links[:active]]
        for link, connection in zip(self.links, connections, strict=False):
            if connection is None:
                link.open()  # for the next ones: this message need not wait for it
        lane, self.why = choose_lane(connections, self._current, size, options.priority)
        if options.priority <= 0 and connections[lane] is not None:
            self._current = lane
        self.last = lane
        return self.links[lane]

    def try_reach(self, options: SendOptions, size: int) -> Connection | None:
        """The open connection with room that a message takes, or None: `reach` it, then."""
        connection = self.pick(options, size).connection if self.links[0].connection is not None else None
        return None if connection is None or not connection.has_room(size) else connection

    async def reach(self, options: SendOptions, size: int) -> tuple[Link, Connection]:
        """The link that a message takes, and its open connection with room: `send` before the next `await`.

        Raises:
            Unreachable: It cannot be opened, or was lost while we waited for room.
            Overloaded: There is no room, and `options.refuse`.
        """
        await self.links[0].wait_open()  # its WELCOME tells how many lanes there may be
        while True:
            link = self.pick(options, size)
            connection = link.connection
            if connection is None:
                await link.wait_open()
            elif connection.has_room(size) or self._shed(link, connection, options, size):
                return link, connection
            elif options.refuse:
                raise Overloaded(f"the queue to node {link.peer} is full on the {link.channel} channel", hint=_NO_ROOM)
            else:
                await connection.wait_room(size)
                if link.connection is not connection:
                    raise Unreachable(
                        f"the link to node {link.peer} was lost while messages waited for room",
                        hint="earlier messages to it may be lost: they are at most once",
                    )

    def send(self, connection: Connection, envelope: Envelope, options: SendOptions, deadline_at: float) -> None:
        """Hand a message to the connection that `reach` or `try_reach` named."""
        if options.priority or options.latest:
            connection.send_ranked(envelope, options.priority, options.latest, deadline_at)
        else:
            connection.send(envelope, deadline_at)
        if options.key is not None:
            self.table.on_sent(options.key)

    def _shed(self, link: Link, connection: Connection, options: SendOptions, size: int) -> bool:
        dropped = connection.shed(options.priority, size)
        for envelope in dropped:
            if envelope.kind == Kind.CALL:  # nobody waits for the others
                self._on_shed(
                    link.peer, envelope, Overloaded(f"dropped for what is more urgent: {_FULL}", hint=_NO_ROOM)
                )
        return bool(dropped)

    def on_lost(self, lane: int) -> None:
        """What was under way there will not arrive any more."""
        self.table.on_received(lane, self.table.mark(lane))

    def _adjust(self) -> None:
        lanes = min(self._limit, self.links[0].lanes_admitted)
        if lanes != self.table.active:
            self.table.set_active(lanes)

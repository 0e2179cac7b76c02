"""At which servers a client is, and where it goes next.

Every client orders the servers by a hash of both names (rendezvous hashing; Thaler and Ravishankar, 1998): clients are
spread evenly without anybody counting them, each knows where to go when its server is lost without asking, and a new
server takes an equal share from every other while nobody else moves.
"""

import dataclasses
import hashlib
import math
import random

from topologies.client_server.settings import ClientServerSettings
from topologies.identity import NodeId

__all__ = ("Homes", "preference")


def preference(client: NodeId, server: NodeId) -> int:
    """How well this server suits this client; all who compute it agree."""
    return int.from_bytes(hashlib.blake2b(f"{client}\0{server}".encode(), digest_size=8).digest(), "big")


@dataclasses.dataclass(slots=True)
class _Stay:
    place: int
    due: float  # to give up asking, or to renew
    is_in: bool = False


@dataclasses.dataclass(slots=True)
class _Avoided:
    until: float
    pause_s: float


class Homes:
    """The places of one client. What it returns are servers to ask, or to leave; the caller sends the messages.

    Args:
        me: The client.
        settings: See there.
        rng: Chooses moments and the first place.
    """

    def __init__(self, me: NodeId, settings: ClientServerSettings, rng: random.Random) -> None:
        self._me = me
        self._settings = settings
        self._rng = rng
        self._servers: dict[NodeId, int] = {}  # those that live, and how well they suit us
        self._stays: dict[NodeId, _Stay] = {}
        self._avoided: dict[NodeId, _Avoided] = {}  # only servers that live
        self._move_at = math.inf  # to a server that suits better
        self._last_place = rng.getrandbits(52)

    @property
    def current(self) -> list[NodeId]:
        """The servers that have let us in."""
        return [server for server, stay in self._stays.items() if stay.is_in]

    def place(self, server: NodeId) -> int | None:
        """The number of our stay there, or of our question."""
        stay = self._stays.get(server)
        return None if stay is None else stay.place

    def add(self, server: NodeId, now: float) -> None:
        """A server lives, or lives again."""
        self._avoided.pop(server, None)
        self._servers[server] = preference(self._me, server)
        if self._move_at == math.inf:
            self._move_at = now + self._rng.uniform(0.0, self._settings.rebalance_s)

    def remove(self, server: NodeId) -> None:
        """It is gone, and with it our place there."""
        self._servers.pop(server, None)
        self._avoided.pop(server, None)
        self._stays.pop(server, None)

    def failed(self, server: NodeId, now: float) -> bool:
        """It let us down: ask others for a while. False if we had and wanted nothing there."""
        if self._stays.pop(server, None) is None:
            return False
        if server not in self._servers:
            return True
        avoided = self._avoided.get(server)
        pause_s = self._settings.retry_min_s
        if avoided is not None:
            pause_s = min(2 * avoided.pause_s, self._settings.retry_max_s)
        avoided = self._avoided[server] = _Avoided(now + pause_s * self._rng.uniform(0.5, 1.0), pause_s)
        if self._move_at == math.inf:
            self._move_at = avoided.until + self._rng.uniform(0.0, self._settings.rebalance_s)
        return True

    def let_in(self, server: NodeId, place: int, now: float) -> list[NodeId] | None:
        """It has let us in. Returns which homes are one too many now; None: this is about no stay of ours."""
        stay = self._stays.get(server)
        if stay is None or stay.place != place:
            return None
        stay.is_in = True
        stay.due = now + self._settings.refresh_s * self._rng.uniform(0.75, 1.0)
        self._avoided.pop(server, None)
        held = sorted(self.current, key=self._servers.__getitem__, reverse=True)
        return held[self._settings.homes :]

    def leave(self, server: NodeId) -> int:
        """Give up a place; returns its number."""
        return self._stays.pop(server).place

    def late(self, now: float) -> list[NodeId]:
        """Servers that did not answer in time."""
        return [server for server, stay in self._stays.items() if not stay.is_in and stay.due <= now]

    def to_renew(self, now: float) -> list[NodeId]:
        """Homes to be told that we are still there."""
        due = [server for server, stay in self._stays.items() if stay.is_in and stay.due <= now]
        for server in due:
            self._stays[server].due = now + self._settings.refresh_s * self._rng.uniform(0.75, 1.0)
        return due

    def to_ask(self, now: float) -> list[NodeId]:
        """Whom to ask next; each counts as asked from now on."""
        if len(self._stays) >= self._settings.homes and self._move_at > now:
            return []
        ranked = sorted(self._servers, key=self._servers.__getitem__, reverse=True)
        free = [server for server in ranked if self._is_free(server, now)]
        wanted = free[: self._settings.homes]
        missing = self._settings.homes - len(self._stays)
        if self._move_at <= now:
            back = min((it.until for it in self._avoided.values() if it.until > now), default=math.inf)
            self._move_at = back + self._rng.uniform(0.0, self._settings.rebalance_s)
            chosen = [server for server in wanted if server not in self._stays]
        else:
            chosen = [server for server in free if server not in self._stays][: max(0, missing)]
        for server in chosen:
            self._last_place += 1
            self._stays[server] = _Stay(self._last_place, now + self._settings.attach_timeout_s)
        return chosen

    def next_deadline(self, now: float) -> float:
        """When something is due; infinite if nothing is."""
        due = min((stay.due for stay in self._stays.values()), default=math.inf)
        if len(self._stays) < self._settings.homes:
            due = min([due, *(avoided.until for avoided in self._avoided.values() if avoided.until > now)])
        return min(due, self._move_at)

    def _is_free(self, server: NodeId, now: float) -> bool:
        avoided = self._avoided.get(server)
        return avoided is None or avoided.until <= now

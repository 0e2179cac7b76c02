"""Which clients are at a server. Their number is bounded, and who is not heard of for long is let go."""

import dataclasses
import math
from collections.abc import Iterator

from topologies.client_server.settings import ClientServerSettings
from topologies.identity import NodeId

__all__ = ("Guests",)

_SILENCES_MAX = 3  # in refresh intervals


@dataclasses.dataclass(slots=True)
class _Guest:
    place: int
    until: float


class Guests:
    """The clients of one server.

    Args:
        settings: See there.
    """

    def __init__(self, settings: ClientServerSettings) -> None:
        self._settings = settings
        self._guests: dict[NodeId, _Guest] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._guests)

    def __contains__(self, client: NodeId) -> bool:
        return client in self._guests

    def let_in(self, client: NodeId, place: int, now: float) -> bool:
        """A client comes, or says that it is still here. False if there is no room."""
        if client not in self._guests and len(self._guests) >= self._settings.clients_max:
            return False
        self._guests[client] = _Guest(place, now + _SILENCES_MAX * self._settings.refresh_s)
        return True

    def left(self, client: NodeId, place: int) -> bool:
        """It says goodbye. False if that is about no stay of its."""
        guest = self._guests.get(client)
        if guest is None or guest.place != place:
            return False
        del self._guests[client]
        return True

    def remove(self, client: NodeId) -> int | None:
        """It is gone; returns its place if it had one."""
        guest = self._guests.pop(client, None)
        return None if guest is None else guest.place

    def silent(self, now: float) -> list[NodeId]:
        """Who has not been heard of for too long."""
        return [client for client, guest in self._guests.items() if guest.until <= now]

    def next_deadline(self) -> float:
        return min((guest.until for guest in self._guests.values()), default=math.inf)

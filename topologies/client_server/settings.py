"""Settings of the client-server overlay: units, and what is traded by changing them."""

import dataclasses
import math

__all__ = ("ClientServerSettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientServerSettings:
    """How clients find their servers. All nodes of a cluster should agree.

    Attributes:
        server_tag: A member with this tag, whatever its value, is a server; all others are clients.
        homes: Servers that a client is attached to. With two the loss of one interrupts nothing, at the cost of a
            second link and of broadcasts that come twice.
        clients_max: Clients attached to one server. Past it a client is refused, and asks the next server.
        attach_timeout_s: Dialling a server and being let in may take this long; then the next one is asked.
        refresh_s: A client renews its places this often, and a server that has heard nothing for three times as long
            lets it go: what a lost message broke is mended then. Shorter costs a message to each home every time.
        rebalance_s: A client that has its homes moves to a server that suits it better, since it has joined or come
            back, at a random moment up to this late, so that a new server is not run over.
        retry_min_s: A server that failed or was full is left alone this long; doubles each time up to `retry_max_s`.
        retry_max_s: The longest pause.
        drain_timeout_s: The link of a place that was given up is closed when the server has confirmed that everything
            has arrived, or after this long.
    """

    server_tag: str = "server"
    homes: int = 2
    clients_max: int = 4096
    attach_timeout_s: float = 5.0
    refresh_s: float = 10.0
    rebalance_s: float = 10.0
    retry_min_s: float = 1.0
    retry_max_s: float = 60.0
    drain_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.server_tag:
            raise ValueError("server_tag is empty; it must name the tag that servers carry")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "server_tag" and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.retry_min_s > self.retry_max_s:
            raise ValueError(
                f"retry_min_s is {self.retry_min_s}, retry_max_s {self.retry_max_s}; the least must not be above the "
                "most"
            )

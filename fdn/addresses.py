"""Where a node listens, where others find it, and whom it joins: addresses as people write them in settings.

A node has one port per channel, counted from a base port (`transports.endpoint`). People write the base.
"""

import dataclasses
from typing import Final

from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInvalid

__all__ = ("Bind", "parse_advertise", "parse_bind", "parse_join")

_BASE_PORT_MAX: Final = 65535 - max(channel.port_offset for channel in Channel)


@dataclasses.dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen.

    Attributes:
        base: The base endpoint; port 0 takes an ephemeral port for each channel.
        search: Whether a taken port means to try the next group of four.
    """

    base: Endpoint
    search: bool = False

    @property
    def port(self) -> int:
        """The base port."""
        return self.base.port

    def endpoints(self, base_port: int | None = None) -> dict[Channel, str]:
        """The endpoint of each channel, counted from this base port or from another one."""
        base = self.base if base_port is None else dataclasses.replace(self.base, port=base_port)
        return {channel: str(base.for_channel(channel)) for channel in Channel}


def parse_bind(text: str) -> Bind:
    """Read a `bind` setting: a base endpoint, or `HOST:PORT` for short; a `+` after the port searches for a free group.

    Raises:
        ValueError: It is not one; the text says what one looks like.
    """
    text = _in_full(text)
    search = text.startswith("tcp:") and text.endswith("+")
    base = _endpoint(text.removesuffix("+") if search else text)
    if base.port > _BASE_PORT_MAX:
        raise ValueError(f"expected a base port of at most {_BASE_PORT_MAX}: each channel has a port, counted from it")
    if search and base.port == 0:
        raise ValueError("port 0 takes whatever is free already; leave out the +, or name the first port to try")
    return Bind(base, search)


def parse_advertise(text: str) -> str | dict[Channel, str]:
    """Read an `advertise` setting: a host, which keeps the bound ports, or an endpoint for every channel.

    Returns:
        The host (IPv6 in brackets, ready for an endpoint), or the map.

    Raises:
        ValueError: It is neither; the text says what is wrong.
    """
    if "=" not in text:
        host = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
        try:
            # Any port makes an endpoint of a host; whoever wrote a port of their own gets two, and the message.
            _dialable(f"tcp://{host}:1")
        except ValueError:
            raise ValueError(
                'expected a host such as "10.0.0.5", '
                'or a map "coordination=tcp://HOST:PORT,gossip=...,data=...,events=..."'
            ) from None
        return host
    endpoints: dict[Channel, str] = {}
    for part in text.split(","):
        name, _, endpoint = (piece.strip() for piece in part.partition("="))
        if name not in set(Channel):
            raise ValueError(f'"{name}" is not a channel; expected {", ".join(Channel)}')
        endpoints[Channel(name)] = _dialable(endpoint)
    missing = [channel for channel in Channel if channel not in endpoints]
    if missing:
        raise ValueError(f"the map names no endpoint for {', '.join(missing)}")
    return endpoints


def parse_join(text: str) -> str:
    """Read one address of a `join` setting: an endpoint, or `HOST:PORT` for short; in full.

    Raises:
        ValueError: It cannot be dialled; the text says what is expected.
    """
    return _dialable(_in_full(text))


def _in_full(text: str) -> str:
    return text if "://" in text else f"tcp://{text}"


def _dialable(text: str) -> str:
    endpoint = _endpoint(text)
    try:
        endpoint.check_dialable()
    except EndpointInvalid as error:
        raise ValueError(error.reason) from None
    return str(endpoint)


def _endpoint(text: str) -> Endpoint:
    try:
        return Endpoint.parse(text)
    except EndpointInvalid as error:
        raise ValueError(error.reason) from None

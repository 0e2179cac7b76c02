"""Endpoints: parsing, printing, and the base-port rule that derives the four of a node from one.

Wire format: `docs/spec/0001-wire.md`, section 3.
"""

import dataclasses
import ipaddress
import re
from typing import Self

from transports.channel import Channel
from transports.errors import EndpointInvalid

__all__ = ("Endpoint",)

_EXPECTED = "expected tcp://HOST:PORT (IPv6 in brackets), ipc://PATH or memory://NAME"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_IPC_PATH_BYTES_MAX = 107  # sockaddr_un holds 108 with the terminating zero
_WILDCARDS = frozenset({"*", "0.0.0.0", "::"})


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that can be bound or dialled.

    Attributes:
        scheme: `tcp`, `ipc` or `memory`.
        host: Host name or address (IPv6 without brackets); the path or name of the other schemes.
        port: TCP port, 0 for an ephemeral one; always 0 for the other schemes.
    """

    scheme: str
    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an endpoint.

        Raises:
            EndpointInvalid: It is not one; the message says what was expected.
        """
        scheme, separator, rest = text.partition("://")
        if not separator or not rest:
            raise EndpointInvalid(text, _EXPECTED)
        match scheme:
            case "tcp":
                return cls("tcp", *_host_and_port(text, rest))
            case "ipc":
                if len(rest.encode()) > _IPC_PATH_BYTES_MAX:
                    raise EndpointInvalid(
                        text, f"its path exceeds the {_IPC_PATH_BYTES_MAX} bytes that the system allows"
                    )
                return cls("ipc", rest)
            case "memory":
                return cls("memory", rest)
        raise EndpointInvalid(text, f"unknown scheme {scheme!r}; {_EXPECTED}")

    def __str__(self) -> str:
        if self.scheme != "tcp":
            return f"{self.scheme}://{self.host}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    def for_channel(self, channel: Channel) -> "Endpoint":
        """The endpoint of `channel` on a node whose base endpoint this is.

        TCP adds the channel's offset to the port; port 0 stays 0, four ephemeral ports. The other schemes append
        the channel's name.

        Raises:
            EndpointInvalid: The port would pass 65535.
        """
        if self.scheme != "tcp":
            return dataclasses.replace(self, host=f"{self.host}.{channel.value}")
        if self.port == 0:
            return self
        port = self.port + channel.port_offset
        if port > 65_535:
            raise EndpointInvalid(str(self), f"channel {channel.value} would get port {port}; give 65532 at most")
        return dataclasses.replace(self, port=port)

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return self.scheme == "tcp" and ":" in self.host

    @property
    def is_name(self) -> bool:
        """Whether the host is a name that has to be resolved."""
        return self.scheme == "tcp" and self.host != "*" and _address(self.host) is None

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all interfaces: fine to bind, meaningless to dial."""
        return self.scheme == "tcp" and self.host in _WILDCARDS

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A host name counts only when it is `localhost`."""
        if self.scheme != "tcp" or self.host == "localhost":
            return True
        address = _address(self.host)
        return address is not None and address.is_loopback

    def check_dialable(self) -> None:
        """Refuse what can be bound but not dialled.

        Raises:
            EndpointInvalid: A wildcard host, or port 0.
        """
        if self.is_wildcard:
            raise EndpointInvalid(str(self), "a wildcard can be bound but not dialled; give one address")
        if self.scheme == "tcp" and self.port == 0:
            raise EndpointInvalid(str(self), "port 0 can be bound but not dialled; give the port that was really bound")


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, separator, port = rest.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise EndpointInvalid(text, f"no port between 0 and 65535 at its end; {_EXPECTED}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        address = _address(host)
        if address is None or address.version != 6:
            raise EndpointInvalid(text, f"{host!r} is not an IPv6 address")
    elif host != "*" and not _HOST.fullmatch(host):
        raise EndpointInvalid(text, f"{host!r} is neither a host name nor an address (IPv6 goes in brackets)")
    return host, int(port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

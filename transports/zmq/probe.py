"""Why a dial failed: libzmq says only that it did, so the plain socket API is asked once more.

"Nobody listens there" and "nobody answered" are different evidence about a peer, and a failure detector must not
take one for the other.
"""

import asyncio
import errno
import os
import socket as sockets

from transports.endpoint import Endpoint
from transports.transport import EventKind

__all__ = ("probe", "resolve")

# The machine that answered has no such listener: the process is gone. ENOENT is an ipc path without a file.
_REFUSED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT})


async def probe(endpoint: Endpoint) -> tuple[EventKind, str]:
    """Try a plain connection and say what became of it.

    Bounded by the caller. An attempt that succeeds closes at once: the listener came up a moment too late for us,
    which is no evidence that it is gone.
    """
    family = sockets.AF_UNIX if endpoint.scheme == "ipc" else sockets.AF_INET6 if endpoint.is_ipv6 else sockets.AF_INET
    address = endpoint.host if endpoint.scheme == "ipc" else (endpoint.host, endpoint.port)
    with sockets.socket(family, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK) as plain:
        try:
            await asyncio.get_running_loop().sock_connect(plain, address)
        except OSError as error:
            kind = EventKind.REFUSED if error.errno in _REFUSED else EventKind.UNREACHABLE
            return kind, os.strerror(error.errno) if error.errno else str(error)
    return EventKind.UNREACHABLE, "it refused the connection, and a moment later it accepted one"


async def resolve(endpoint: Endpoint) -> list[Endpoint]:
    """The addresses of a host name, in the system's order, each as an endpoint.

    libzmq would do this in its I/O thread and stop every socket of the transport while a name server is silent.

    Raises:
        OSError: The name does not resolve.
    """
    found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=sockets.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    return [Endpoint(endpoint.scheme, host, endpoint.port) for host in dict.fromkeys(addresses)]

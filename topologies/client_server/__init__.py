"""Client-server: a few servers in a mesh, and clients at one or two of them. Start with `client_server`."""

from topologies.client_server.client_server import ClientServer, ClientServerStats
from topologies.client_server.messages import Message, decode, encode
from topologies.client_server.settings import ClientServerSettings

__all__ = ("ClientServer", "ClientServerSettings", "ClientServerStats", "Message", "decode", "encode")

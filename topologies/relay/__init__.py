"""Ways over others: to a member whose direct link is down, or much slower than a path over a third.

The problem: two members are both alive, and the network between them is cut one way or both, or slow, while others
reach both. Each node measures the direct way to whom it talks to, asks a few neighbours how they reach that member
when the direct way is bad, and takes the best path that it is told of. Nothing is measured or asked for members that
nobody talks to.

A route is the whole list of relays (source routing, as in RFC 791's strict source route, and in Dynamic Source
Routing, Johnson and Maltz 1996). A path that names no node twice cannot loop, whatever the others believe; each relay
only follows it, over direct links, and can check that a message came from the node before it. Hysteresis: a route that
is merely faster must be so by a factor and for a while, and so must the direct way before it is taken again.
"""

from topologies.relay.messages import Ask, Echo, Path, Probe, RelayMessage, decode, encode
from topologies.relay.routes import (
    Adopt,
    InUse,
    LinksUp,
    PeerGone,
    Received,
    RelayEffect,
    RelayInput,
    RelayRoutes,
    RelaySend,
    RelayStats,
    Route,
    RouteChanged,
    Undeliverable,
)
from topologies.relay.settings import RelaySettings

__all__ = (
    "Adopt",
    "Ask",
    "Echo",
    "InUse",
    "LinksUp",
    "Path",
    "PeerGone",
    "Probe",
    "Received",
    "RelayEffect",
    "RelayInput",
    "RelayMessage",
    "RelayRoutes",
    "RelaySend",
    "RelaySettings",
    "RelayStats",
    "Route",
    "RouteChanged",
    "Undeliverable",
    "decode",
    "encode",
)

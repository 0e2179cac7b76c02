"""The control plane's links and sessions: `coordination` and `gossip`, to every peer that the overlay wants.

Members' links are kept: they redial by themselves, and every loss is evidence for the failure detector. A dial to a
seed, or to a member held dead, is a single attempt; when it is answered, the link is taken over.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from fdn.runtime.facts import Fact, HandshakeRefused, LinkDown, LinkUp, SettingsDiffer
from fdn.runtime.greeting import Greeter
from fdn.runtime.link import Link
from fdn.runtime.sessions import Session, Sessions, SessionsStats
from fdn.settings import LinkSettings
from transports.channel import Channel
from transports.transport import Batch, ConnectionEvent, ConnectionStats, Listener, ListenerStats, Transport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Refused, Welcome

__all__ = ("CONTROL_CHANNELS", "ControlLinks", "LinksOwner")

CONTROL_CHANNELS = (Channel.COORDINATION, Channel.GOSSIP)
_ASIDES_MAX = 64


class LinksOwner(Protocol):
    """Who is told; the control plane's driver."""

    def on_met(self, identity: Identity, inbound: bool) -> None:
        """A handshake has told us directly that this node lives."""

    def on_evidence(self, node: str, event: ConnectionEvent) -> None:
        """A link to `node` was lost, or could not be made."""

    def on_seed(self, endpoint: str, outcome: Identity | Refused | ConnectionEvent) -> None:
        """What came of dialling a bare endpoint."""

    def on_envelope(self, session: Session, envelope: Envelope) -> None:
        """Something came in on a session."""

    def on_link_up(self, node: str, channel: Channel) -> None:
        """Our link to `node` has opened: what is sent now arrives, or the link is lost."""

    def on_links_changed(self) -> None:
        """A link opened or was lost: who is reachable may have changed."""


class ControlLinks:
    """See the module. All methods belong to the control plane's loop."""

    def __init__(
        self,
        *,
        transport: Transport,
        greeter: Greeter,
        settings: LinkSettings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        publish: Callable[[Fact], None],
        owner: LinksOwner,
    ) -> None:
        self._transport = transport
        self._greeter = greeter
        self._settings = settings
        self._loop = loop
        self._rng = rng
        self._publish = publish
        self._owner = owner
        self._listeners: dict[Channel, Listener] = {}
        self._links: dict[tuple[str, Channel], Link] = {}
        self._dials: dict[str, Link] = {}  # by endpoint: single attempts under way
        self._wanted: dict[str, Mapping[str, str]] = {}  # node -> endpoints, by the overlay
        self._features: dict[str, tuple[str, ...]] = {}  # what the members that we have dialled speak
        self._asides: dict[tuple[str, Channel], Link] = {}  # to where a node says it is, when membership knows better
        self._sessions = Sessions(
            greeter,
            settings.sessions_max,
            (1 << 30, 1 << 40),
            self._on_session,
            self._on_session_refused,
            lambda session: None,
        )
        self.unsent = 0  # messages dropped because no link to the peer was open, or it was full

    def listen(self, channel: Channel, endpoint: str) -> str:
        """Bind one channel; returns the endpoint with its real port."""
        listener = self._transport.listen(channel, endpoint, lambda batch: self._on_batch(channel, listener, batch))
        self._listeners[channel] = listener
        return listener.endpoint

    def unlisten(self) -> None:
        """Give the bound ports free again (the group was not free as a whole)."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    # -- what the overlay and the healer want

    def connect(self, node: str, endpoints: Mapping[str, str]) -> None:
        """Keep links to this node."""
        self._wanted[node] = endpoints
        self._close_asides(node)
        for channel in CONTROL_CHANNELS:
            endpoint = endpoints.get(channel.value, "")
            link = self._links.get((node, channel))
            if link is not None and link.endpoint != endpoint and endpoint:
                link.close()
                link = None
            if link is None and endpoint:
                link = self._make(node, channel, endpoint, kept=True)
            if link is not None:
                link.kept = True
                link.open()
                link.redial_now()

    def disconnect(self, node: str, goodbye: str = "") -> None:
        """Drop the links to this node, and believe its sessions no more."""
        self._wanted.pop(node, None)
        self._features.pop(node, None)
        self._close_asides(node)
        for channel in CONTROL_CHANNELS:
            link = self._links.pop((node, channel), None)
            if link is not None:
                link.close(goodbye)
        self._sessions.drop_peer(node)
        self._owner.on_links_changed()

    def dial(self, endpoint: str) -> None:
        """Try a bare endpoint once; the owner hears `on_seed`."""
        if endpoint in self._dials:
            return
        link = self._dials[endpoint] = self._make("", Channel.COORDINATION, endpoint, kept=False)
        link.open()

    def send(self, node: str, channel: Channel, envelope: Envelope, endpoint: str = "") -> bool:
        """Send to a node if there is a way to it. Never waits.

        Args:
            endpoint: Where to dial if there is no link at all; empty does not.
        """
        link = self._links.get((node, channel))
        if link is None and endpoint:
            link = self._make(node, channel, endpoint, kept=False)
        if link is not None:
            connection = link.connection
            if connection is not None and connection.full:
                self.unsent += 1  # gossip is repeated and newer news supersedes it: better lost than late
                return False
            if link.send_exempt(envelope):
                return True
        self.unsent += 1
        return False

    def said_endpoint(self, node: str, channel: Channel) -> str:
        """Where a node says that it listens, by the newest HELLO of its open sessions; empty if there is none."""
        identity = self._sessions.identity_of(node)
        return "" if identity is None else identity.endpoints.get(channel.value, "")

    def send_aside(self, node: str, channel: Channel, envelope: Envelope, endpoint: str) -> bool:
        """Send to where a node says that it is, while membership holds it to be elsewhere. Never waits.

        Somebody has lied about it, or its data directory was restored from a copy: a later life of it is believed in,
        at an address where it is not. Only there it can be told, and then it rises above that life.
        """
        link = self._asides.get((node, channel))
        if link is not None and link.endpoint != endpoint:
            link.close()
            link = None
        if link is None:
            if len(self._asides) >= _ASIDES_MAX:
                self.unsent += 1
                return False
            link = self._asides[node, channel] = self._new_link(node, channel, endpoint, kept=False)
        if link.send_exempt(envelope):
            return True
        self.unsent += 1
        return False

    def is_open(self, node: str, channel: Channel = Channel.COORDINATION) -> bool:
        """Whether our link to that node is open."""
        link = self._links.get((node, channel))
        return link is not None and link.connection is not None

    def speaks(self, node: str, feature: str) -> bool:
        """Whether a member has said, when our gossip link to it last opened, that it speaks an optional part."""
        return feature in self._features.get(node, ())

    def when_idle(self, node: str, channel: Channel, callback: Callable[[], None]) -> None:
        """Call back once, when nothing waits to leave on our link to a node; never if it is not open, or ends first."""
        link = self._links.get((node, channel))
        if link is not None and link.connection is not None:
            link.connection.when_idle(callback)

    def send_clients(self, envelope: Envelope) -> None:
        """Tell every client that has a session now; one whose queue is full is not told, and counted."""
        for session in self._sessions.open_sessions():
            if session.is_client:
                session.answer(envelope)

    def close(self, goodbye: str) -> None:
        """Say goodbye everywhere and drop everything but the transport."""
        for link in [*self._links.values(), *self._dials.values(), *self._asides.values()]:
            link.close(goodbye)
        self._links.clear()
        self._asides.clear()
        self._dials.clear()

    def link_stats(self) -> dict[str, ConnectionStats]:
        """By "node channel", open links only."""
        return {
            f"{node} {channel}": link.connection.stats()
            for (node, channel), link in self._links.items()
            if link.connection is not None
        }

    def session_stats(self) -> SessionsStats:
        return self._sessions.stats()

    def listener_stats(self) -> dict[str, ListenerStats]:
        """By channel."""
        return {channel.value: listener.stats() for channel, listener in self._listeners.items()}

    # -- sessions

    def _on_batch(self, channel: Channel, listener: Listener, batch: Batch) -> None:
        session = self._sessions.of(channel, listener, batch)
        if session is None:
            return
        for envelope in batch.envelopes:
            if envelope.kind == Kind.BYE:
                self._sessions.close(session)
            else:
                self._owner.on_envelope(session, envelope)

    def _on_session(self, session: Session) -> None:
        if session.is_client:
            return
        identity = session.hello.identity
        session.answer = lambda envelope: self._answer(session, envelope)
        self._compare(identity, session.hello.fingerprint)
        link = self._links.get((session.peer, session.channel))
        if link is not None:
            link.redial_now()  # it has just shown that it lives
        self._owner.on_met(identity, True)

    def _answer(self, session: Session, envelope: Envelope) -> None:
        endpoint = session.hello.identity.endpoints.get(session.channel.value, "")
        self.send(session.peer, session.channel, envelope, endpoint)

    def _on_session_refused(self, hello: Hello, refused: Refused) -> None:
        self._publish(
            HandshakeRefused(self._loop.time(), hello.identity.name, refused.code, refused.reason, inbound=True)
        )

    # -- links

    def _make(self, node: str, channel: Channel, endpoint: str, kept: bool) -> Link:
        link = self._new_link(node, channel, endpoint, kept)
        if node:
            self._links[node, channel] = link
        return link

    def _new_link(self, node: str, channel: Channel, endpoint: str, kept: bool) -> Link:
        return Link(
            transport=self._transport,
            channel=channel,
            endpoint=endpoint,
            peer=node,
            kept=kept,
            greeter=self._greeter,
            owner=self,
            settings=self._settings,
            loop=self._loop,
            rng=self._rng,
        )

    def on_link_open(self, link: Link, welcome: Welcome) -> None:
        identity = welcome.identity
        self._compare(identity, welcome.fingerprint)
        if not link.peer:
            del self._dials[link.endpoint]
            self._take_over(link, identity)
            self._owner.on_seed(link.endpoint, identity)
            if identity.node == self._greeter.identity.node:
                return
        if link.connection is None or self._is_aside(link):  # there was one already
            self._owner.on_met(identity, False)
            return
        if link.channel is Channel.GOSSIP:
            self._features[identity.node] = welcome.features
        self._publish(LinkUp(self._loop.time(), identity.node, link.channel.value, link.endpoint))
        self._owner.on_links_changed()
        self._owner.on_met(identity, False)
        self._owner.on_link_up(identity.node, link.channel)

    def _take_over(self, link: Link, identity: Identity) -> None:
        """Use a dialled link as the node's own, unless there is one, or it leads back to us."""
        key = (identity.node, Channel.COORDINATION)
        former = self._links.get(key)
        if identity.node == self._greeter.identity.node or (former is not None and former.connection is not None):
            link.close("not needed")
            return
        if former is not None:
            former.close()
        link.peer = identity.node
        link.kept = identity.node in self._wanted
        self._links[key] = link

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        self._publish(HandshakeRefused(self._loop.time(), link.endpoint, refused.code, refused.reason, inbound=False))
        if not link.peer:
            self._dials.pop(link.endpoint, None)
            link.close()
            self._owner.on_seed(link.endpoint, refused)
        elif not link.kept:
            self._let_go(link)

    def on_link_lost(self, link: Link, event: ConnectionEvent, was_open: bool, dropped: int) -> None:
        if not link.peer:
            self._dials.pop(link.endpoint, None)
            link.close()
            self._owner.on_seed(link.endpoint, event)
            return
        if self._is_aside(link):
            self._let_go(link)
            return
        if was_open:
            reason = f"{event.kind.value}{': ' if event.detail else ''}{event.detail}"
            self._publish(LinkDown(self._loop.time(), link.peer, link.channel.value, link.endpoint, reason, dropped))
            self._owner.on_links_changed()
        if not link.kept:
            self._let_go(link)
        self._owner.on_evidence(link.peer, event)

    def on_link_batch(self, link: Link, batch: Batch) -> None:
        """Nodes answer on their own links: nothing that comes back here was asked for, so it is dropped."""

    def _is_aside(self, link: Link) -> bool:
        return self._asides.get((link.peer, link.channel)) is link

    def _close_asides(self, node: str) -> None:
        for channel in CONTROL_CHANNELS:
            link = self._asides.pop((node, channel), None)
            if link is not None:
                link.close()

    def _let_go(self, link: Link) -> None:
        if self._is_aside(link):
            del self._asides[link.peer, link.channel]
            link.close()
        if self._links.get((link.peer, link.channel)) is link:
            del self._links[link.peer, link.channel]
            link.close()

    def _compare(self, identity: Identity, theirs: str) -> None:
        if theirs and theirs != self._greeter.fingerprint:
            self._publish(SettingsDiffer(self._loop.time(), identity.node, theirs, self._greeter.fingerprint))

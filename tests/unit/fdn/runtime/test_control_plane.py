import asyncio
import functools
import random
from typing import Any, TypeVar

import msgspec
import pytest

from fdn.errors import ConfigError, Conflict, Error, Unreachable, VersionMismatch
from fdn.runtime import facts
from fdn.runtime.bulk import Piece, encode
from fdn.runtime.control_bulk import BULK, BULK_FEATURE
from fdn.runtime.control_plane import ControlPlane
from fdn.runtime.greeting import Greeter
from fdn.runtime.view import EMPTY_VIEW, NodeRecord, NodeState, View
from fdn.settings import DataSettings, Settings
from tests.unit.fdn.harness import body, hello, until, virtual
from tests.unit.fdn.runtime.harness import LoggedTransport, Peer, identity, refused, said, spin
from tests.unit.transports.harness import Dialled
from topologies import records, swim
from topologies.identity import NodeId
from transports.channel import Channel
from transports.memory import MemoryNetwork, MemoryTransport
from transports.transport import ConnectionEvent, EventKind
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Refused, RefusedCode, Role

F = TypeVar("F", bound=facts.Fact)
COORDINATION, GOSSIP = Channel.COORDINATION, Channel.GOSSIP
OFFERS = msgspec.msgpack.encode({"math": 1})


class Plane:
    """A control plane, and the data plane's side of it; beats are answered at once while `turning`."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str = "me",
        *,
        at: str = "",
        generation: int = 1,
        speaks: tuple[str, ...] = (BULK_FEATURE,),
        **settings: Any,
    ) -> None:
        self.identity = identity(name, at=at, generation=generation)
        self.views: list[View] = []
        self.facts: list[facts.Fact] = []
        self.turning = True
        self.beats = 0
        data = settings.pop("data", {})
        self.settings = Settings(name=name, data=DataSettings(**data), **settings)
        self.transport = LoggedTransport(network)
        bare = msgspec.structs.replace(self.identity, endpoints={})
        self.greeter = Greeter(
            self.settings.cluster, bare, "0123", object_to=lambda hello: self.control.object_to(hello), features=speaks
        )
        self.control = ControlPlane(
            transport=self.transport,
            settings=self.settings,
            identity=bare,
            greeter=self.greeter,
            loop=asyncio.get_running_loop(),
            rng=random.Random(name),
            data_side=self,
        )
        for channel in (COORDINATION, GOSSIP):
            self.control.links.listen(channel, self.identity.endpoints[channel.value])

    def start(self, offers: bytes = OFFERS) -> "Plane":
        self.control.start(self.identity, offers)
        return self

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def node(self) -> str:
        return self.identity.node

    @property
    def endpoint(self) -> str:
        return self.identity.endpoints["coordination"]

    @property
    def last(self) -> View:
        return self.views[-1] if self.views else EMPTY_VIEW

    def status(self, other: "Plane | Peer") -> str:
        member = self.last.members.get(other.node)
        return "" if member is None else member.status

    def sees(self, other: "Plane") -> bool:
        member = self.last.members.get(other.node)
        return member is not None and member.reachable

    async def heard_from(self, who: Identity, role: Role = Role.NODE, channel: Channel = GOSSIP) -> Dialled:
        """Somebody with that identity says HELLO to us."""
        transport = MemoryTransport(self.transport.network, asyncio.get_running_loop())
        dialled = await Dialled(transport, self.identity.endpoints[channel.value], channel).connected()
        dialled.connection.send_exempt(hello(channel, identity=who, role=role))
        await dialled.inbox.count(1)
        return dialled

    def view_changed(self, view: View) -> None:
        self.views.append(view)

    def fact(self, fact: facts.Fact) -> None:
        self.facts.append(fact)

    def beat(self) -> None:
        self.beats += 1
        if self.turning:
            asyncio.get_running_loop().call_soon(self.control.on_beat)

    def where(self) -> str:
        return "spin (user.py:7)"


async def pair(network: MemoryNetwork, **settings: Any) -> tuple[Plane, Plane]:
    """Two that are one cluster."""
    one, two = Plane(network, "one", **settings).start(), Plane(network, "two").start()
    await two.control.join([one.endpoint])
    await until(lambda: one.sees(two) and two.sees(one))
    await until(lambda: two.node in one.last.offers and one.last.offers[two.node] == OFFERS)
    return one, two


def core(protocol: str, content: bytes) -> Envelope:
    return Envelope(Kind.CORE, protocol, body=msgspec.Raw(content))


# -- alone


@virtual
async def test_nobody_is_welcome_before_the_start():
    plane = Plane(MemoryNetwork())
    dialled = await plane.heard_from(identity("early"))
    told = said(dialled.inbox.envelopes[0], Refused)
    assert (told.code, told.retry) == (RefusedCode.LEAVING, True)
    assert "is not ready" in told.reason
    assert plane.views == []


@virtual
async def test_a_node_alone_sees_itself():
    plane = Plane(MemoryNetwork()).start()
    (member,) = plane.last.members.values()
    assert (member.node, member.name, member.status, member.incarnation) == ("me-id", "me", "alive", (1, 0))
    assert member.me
    assert member.reachable
    assert member.endpoints == plane.identity.endpoints
    assert plane.last.offers == {"me-id": OFFERS}
    assert plane.control.view() == plane.last
    assert plane.greeter.identity == plane.identity  # it greets with its endpoints now


@virtual
async def test_offers_and_draining_are_told():
    network = MemoryNetwork()
    one, two = await pair(network)
    two.control.offer(msgspec.msgpack.encode("new"), draining=True)
    await until(lambda: one.last.members[two.node].state is NodeState.DRAINING)
    assert one.last.offers[two.node] == msgspec.msgpack.encode("new")
    assert one.sees(two)  # it finishes what it has begun


# -- joining


@virtual
async def test_joining_makes_one_cluster():
    network = MemoryNetwork()
    one, two = await pair(network)
    assert {(fact.name, fact.before) for fact in one.of(facts.MemberAlive)} == {("two", "")}
    assert {(fact.name, fact.before) for fact in two.of(facts.MemberAlive)} == {("one", "")}
    three = Plane(network, "three").start()
    await three.control.join(["memory://two"])  # a base address
    assert set(three.last.members) == {one.node, two.node, three.node}
    await three.control.wait_settled(5.0)
    assert three.last.offers == dict.fromkeys((one.node, two.node, three.node), OFFERS)


@virtual
async def test_joining_ourselves_is_done_at_once():
    plane = Plane(MemoryNetwork()).start()
    await plane.control.join(["memory://me", plane.endpoint])
    assert set(plane.last.members) == {"me-id"}


@virtual
async def test_ourselves_and_nobody_else_is_the_first_and_dials_on():
    network = MemoryNetwork()
    plane = Plane(network, join_timeout_s=60.0).start()
    began = asyncio.get_running_loop().time()
    await plane.control.join(["memory://me", "memory://late"])
    assert asyncio.get_running_loop().time() - began < 5.0
    assert set(plane.last.members) == {"me-id"}
    late = Plane(network, "late").start()  # joins nobody: it is found
    await until(lambda: set(plane.last.members) == {"me-id", late.node})


@virtual
async def test_ourselves_and_somebody_silent_is_alone_after_a_while():
    network = MemoryNetwork()
    plane = Plane(network, join_timeout_s=2.0).start()
    silent = Plane(network, "silent").start()
    network.cut(plane.endpoint, silent.endpoint)
    await plane.control.join(["memory://me", "memory://silent"])
    assert set(plane.last.members) == {"me-id"}


@virtual
async def test_nobody_says_what_was_heard_of_each():
    plane = Plane(MemoryNetwork(), join_timeout_s=2.0).start()
    with pytest.raises(Unreachable) as caught:
        await plane.control.join(["memory://nobody", "memory://nowhere"])
    assert "memory://nowhere.coordination: refused (nobody listens there)" in str(caught.value)
    assert "within 2 s" in str(caught.value)


@virtual
async def test_ourselves_and_another_is_the_other():
    network = MemoryNetwork()
    one, two = Plane(network, "one").start(), Plane(network, "two").start()
    await two.control.join([two.endpoint, one.endpoint])
    assert two.status(one) == "alive"


@virtual
async def test_joining_whom_we_know_is_done_at_once():
    network = MemoryNetwork()
    one, two = await pair(network)
    dials = len(one.transport.dials)
    await one.control.join([two.endpoint])
    assert len(one.transport.dials) == dials


@virtual
async def test_a_seed_that_tells_nothing_is_no_cluster():
    network = MemoryNetwork()
    plane = Plane(network, join_timeout_s=2.0).start()
    mute = Peer(network, COORDINATION)
    with pytest.raises(Unreachable, match="peer answered, and told nothing of the cluster"):
        await plane.control.join([mute.endpoint])


@pytest.mark.parametrize(
    ("code", "error", "hint"),
    [
        (RefusedCode.WRONG_CLUSTER, ConfigError, "correct `cluster`"),
        (RefusedCode.NO_COMMON_VERSION, VersionMismatch, "upgrade"),
        (RefusedCode.WRONG_CHANNEL, ConfigError, "base port"),
        (RefusedCode.MALFORMED, Unreachable, "try another node"),
        ("of_a_later_version", Unreachable, "try another node"),
    ],
)
def test_refusals_that_no_patience_helps(code: Any, error: type[Error], hint: str):
    @virtual
    async def scenario() -> None:
        network = MemoryNetwork()
        plane = Plane(network).start()
        seed = Peer(network, COORDINATION, answer=lambda hello: refused("because", code))
        with pytest.raises(error, match=f"{seed.endpoint} refused this node: because") as caught:
            await plane.control.join(["memory://nowhere", seed.endpoint])
        assert type(caught.value) is error
        assert hint in caught.value.hint

    scenario()


@virtual
async def test_a_seed_that_is_not_ready_is_asked_again():
    network = MemoryNetwork()
    plane, seed = Plane(network).start(), Plane(network, "seed")
    joining = asyncio.create_task(plane.control.join([seed.endpoint]))
    await asyncio.sleep(5)
    assert not joining.done()
    seed.start()
    await joining
    assert plane.status(seed) == "alive"


@virtual
async def test_a_seed_that_is_leaving_is_named_in_the_end():
    network = MemoryNetwork()
    plane = Plane(network, join_timeout_s=2.0).start()
    seed = Peer(network, COORDINATION, answer=lambda hello: refused("it is leaving", retry=True))
    with pytest.raises(Unreachable, match=f"{seed.endpoint}: refused: it is leaving"):
        await plane.control.join([seed.endpoint])
    assert len(seed.hellos) > 2


@virtual
async def test_a_name_that_is_taken_is_a_conflict_after_some_patience():
    network = MemoryNetwork()
    first = Plane(network, "one").start()
    again = Plane(network, "one", at="elsewhere")
    again.identity = msgspec.structs.replace(again.identity, node="one-other-id")
    again.start()
    began = asyncio.get_running_loop().time()
    with pytest.raises(Conflict, match=r"the name 'one' belongs to a living node at memory://one\.coordination"):
        await again.control.join([first.endpoint])
    assert 2.0 <= asyncio.get_running_loop().time() - began <= 3.0
    assert len(first.of(facts.HandshakeRefused)) > 1
    assert set(first.last.members) == {"one-id"}


@virtual
async def test_a_name_that_is_given_free_in_time():
    network = MemoryNetwork()
    plane, seed = Plane(network).start(), Plane(network, "seed").start()
    objection = Refused(RefusedCode.NAME_TAKEN, "taken", retry=True)
    seed.greeter._object_to = lambda hello: objection
    joining = asyncio.create_task(plane.control.join([seed.endpoint]))
    await asyncio.sleep(1.5)
    seed.greeter._object_to = seed.control.object_to
    await joining
    assert plane.status(seed) == "alive"


@virtual
async def test_closing_ends_a_join_that_is_under_way():
    plane = Plane(MemoryNetwork()).start()
    joining = asyncio.create_task(plane.control.join(["memory://nowhere"]))
    asking = asyncio.create_task(plane.control.ask("nobody-id", "fdn.ping", None, 5.0))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await plane.control.close("leaving")
    with pytest.raises(Unreachable, match="stopped while it joined"):
        await joining
    with pytest.raises(Unreachable):
        await asking
    assert asyncio.get_running_loop().time() == began


@virtual
async def test_waiting_for_the_records_of_all_is_bounded():
    network = MemoryNetwork()
    one, _ = await pair(network)
    await one.control.wait_settled(0.001)
    silent = Peer(network, GOSSIP)
    one.control.on_met(silent.who, True)
    began = asyncio.get_running_loop().time()
    await one.control.wait_settled(0.2)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.2)


# -- who is welcome


def greeting(who: Identity, channel: Channel = COORDINATION, role: Role = Role.NODE) -> Hello:
    return said(hello(channel, identity=who, role=role), Hello)  # type: ignore[no-any-return]


@virtual
async def test_a_name_belongs_to_one_living_node():
    network = MemoryNetwork()
    one, two = await pair(network)
    for name, holder in (("one", one), ("two", two)):
        objection = one.control.object_to(greeting(Identity("other-id", name)))
        assert objection is not None
        assert (objection.code, objection.retry) == (RefusedCode.NAME_TAKEN, True)
        assert holder.endpoint in objection.reason
        assert one.control.object_to(greeting(Identity(holder.node, name))) is None  # it is that node
        assert one.control.object_to(greeting(Identity("other-id", name), GOSSIP)) is None  # asked once, at the door
        assert one.control.object_to(greeting(Identity("other-id", name), role=Role.CLIENT)) is None
    await two.control.close("")
    await until(lambda: one.status(two) == "dead")
    assert one.control.object_to(greeting(Identity("other-id", "two"))) is None


@virtual
async def test_whoever_leaves_admits_nobody():
    network = MemoryNetwork()
    one, two = await pair(network)
    two.control.leave("stopped")
    objection = two.control.object_to(greeting(identity("three")))
    assert objection is not None
    assert (objection.code, objection.retry) == (RefusedCode.LEAVING, True)
    await until(lambda: one.status(two) == "left")
    await two.control.close("leaving")
    assert two.control.object_to(greeting(identity("three"))) is not None
    assert one.last.members[two.node].reason == "stopped"
    assert [fact.reason for fact in one.of(facts.MemberLeft)] == ["stopped"]
    assert two.node not in one.last.offers
    await asyncio.sleep(60)
    assert one.of(facts.MemberDead) == []


@virtual
async def test_two_living_nodes_of_one_name_are_reported():
    plane = Plane(MemoryNetwork()).start()
    other = msgspec.structs.replace(identity("me", at="elsewhere"), node="other-id")
    plane.control.on_met(other, True)
    (clash,) = plane.of(facts.NameClash)
    assert (clash.name, set(clash.nodes)) == ("me", {"me-id", "other-id"})


# -- failures


@virtual
async def test_a_crash_is_suspected_then_believed():
    network = MemoryNetwork()
    one, two = await pair(network)
    await two.control.close("")
    await until(lambda: one.status(two) == "suspect")
    assert not one.sees(two)
    assert two.node in one.last.offers
    await until(lambda: one.status(two) == "dead")
    assert two.node not in one.last.offers
    kinds = [type(fact) for fact in one.facts if isinstance(fact, facts.MemberSuspect | facts.MemberDead)]
    assert kinds == [facts.MemberSuspect, facts.MemberDead]
    (dead,) = one.of(facts.MemberDead)
    assert (dead.name, dead.by) == ("two", one.node)
    assert "not refuted" in dead.reason
    assert not one.control.links.is_open(two.node)


@virtual
async def test_the_dead_are_forgotten_in_the_end():
    network = MemoryNetwork()
    one, two = await pair(network)
    await two.control.close("")
    await until(lambda: one.status(two) == "dead")
    await asyncio.sleep(700)
    assert set(one.last.members) == {one.node}


@virtual
async def test_a_restarted_node_is_the_same_member():
    network = MemoryNetwork()
    one, two = await pair(network)
    await two.control.close("")
    await until(lambda: one.status(two) == "dead")
    again = Plane(network, "two", generation=2).start()
    await again.control.join([one.endpoint])
    await until(lambda: one.sees(again))
    assert set(one.last.members) == {one.node, two.node}
    assert one.last.members[two.node].incarnation == (2, 0)
    assert [fact.before for fact in one.of(facts.MemberAlive)] == ["", "dead"]


@virtual
async def test_evidence_of_an_address_that_is_no_more_is_none():
    network = MemoryNetwork()
    one, two = await pair(network)
    for kind in (EventKind.REFUSED, EventKind.CLOSED, EventKind.UNREACHABLE, EventKind.FAILED):
        one.control.on_evidence(two.node, ConnectionEvent(kind, "memory://former", "gone"))
        one.control.on_evidence("nobody-id", ConnectionEvent(kind, two.endpoint, "gone"))
    assert one.control.stats().swim.suspicions == 0
    one.control.on_evidence(two.node, ConnectionEvent(EventKind.REFUSED, two.endpoint, "gone"))
    assert one.status(two) == "suspect"
    assert "connection refused: gone" in one.last.members[two.node].reason
    await until(lambda: one.status(two) == "alive")  # it refutes
    assert two.last.members[two.node].incarnation == (1, 1)


@virtual
async def test_whoever_refutes_greets_with_its_new_incarnation():
    network = MemoryNetwork()
    plane, liar = Plane(network).start(), Peer(network, GOSSIP, name="liar")
    dialled = await plane.heard_from(liar.who)
    claim = swim.Claim(NodeId("me-id"), (1, 0), swim.Status.DEAD, "me", plane.identity.endpoints, by=NodeId(liar.node))
    dialled.connection.send_exempt(core("fdn.swim", swim.encode(swim.messages.Gossip((claim,)))))
    await until(lambda: plane.greeter.identity.incarnation == (1, 1))
    assert plane.last.members["me-id"].incarnation == (1, 1)
    assert plane.last.members["me-id"].status == "alive"
    assert plane.greeter.identity.endpoints == plane.identity.endpoints


@virtual
async def test_a_cut_cable_heals():
    network = MemoryNetwork()
    one, two = await pair(network)
    network.cut(one.endpoint, two.endpoint)
    await until(lambda: one.status(two) == two.status(one) == "dead")
    network.heal(one.endpoint, two.endpoint)
    await until(lambda: one.sees(two) and two.sees(one))
    await until(lambda: one.last.offers.get(two.node) == two.last.offers.get(one.node) == OFFERS)


# -- the user's loop


@virtual
async def test_a_loop_that_turns_is_not_talked_about():
    plane = Plane(MemoryNetwork(), data={"beat_interval_s": 0.1}).start()
    views = len(plane.views)
    await asyncio.sleep(10)
    assert 80 <= plane.beats <= 101
    assert plane.facts == []
    assert len(plane.views) == views


@virtual
async def test_a_stall_is_told_to_all_and_ends():
    network = MemoryNetwork()
    one, two = await pair(network, data={"beat_interval_s": 0.1, "stall_warn_s": 0.5, "stall_max_s": 2.0})
    one.turning = False
    await until(lambda: two.last.members[one.node].state is NodeState.STALLED)
    assert two.sees(one)  # it is avoided, and no more
    assert two.last.members[one.node].lag_ms == pytest.approx(500, abs=50)
    assert one.last.members[one.node].state is NodeState.STALLED
    beats = one.beats
    await until(lambda: two.last.members[one.node].state is NodeState.WEDGED)
    assert not two.sees(one)
    assert two.status(one) == "alive"
    assert [(fact.state, fact.where) for fact in one.of(facts.DataPlaneLagging)] == [
        (NodeState.STALLED, "spin (user.py:7)"),
        (NodeState.WEDGED, "spin (user.py:7)"),
    ]
    await asyncio.sleep(10)
    assert one.beats == beats  # one is under way at a time
    assert one.control.stats().data_lag_s >= 10
    one.turning = True
    one.control.on_beat()
    await until(lambda: two.sees(one))
    assert two.last.members[one.node].state is NodeState.SERVING
    assert two.last.members[one.node].lag_ms == 0
    (recovered,) = one.of(facts.DataPlaneRecovered)
    assert recovered.lag_s >= 12
    assert one.control.stats().data_lag_worst_s == recovered.lag_s
    assert one.of(facts.MemberSuspect) == two.of(facts.MemberSuspect) == []


@virtual
async def test_an_answer_that_nobody_asked_for():
    plane = Plane(MemoryNetwork()).start()
    plane.turning = False
    plane.control.on_beat()
    await asyncio.sleep(0.1)
    plane.control.on_beat()
    plane.control.on_beat()
    assert plane.facts == []


@virtual
async def test_draining_is_what_others_see_of_a_stalled_node_that_leaves():
    plane = Plane(MemoryNetwork(), data={"beat_interval_s": 0.1, "stall_warn_s": 0.5, "stall_max_s": 2.0}).start()
    plane.turning = False
    plane.control.offer(OFFERS, draining=True)
    await until(lambda: plane.of(facts.DataPlaneLagging))
    assert plane.last.members["me-id"].state is NodeState.DRAINING


# -- what comes in


@virtual
async def test_garbage_costs_the_sender_its_message(caplog: pytest.LogCaptureFixture):
    network = MemoryNetwork()
    one, two = await pair(network)
    mallory = await one.heard_from(Identity("mallory-id", "mallory"))
    for protocol in ("fdn.swim", "fdn.records"):
        for content in (b"\xc0", b"\x91\xa4Ping", b"\x92\xa4Ping\xa1x", b"\xa2\xff\xfe"):
            mallory.connection.send_exempt(core(protocol, content))
    mallory.connection.send_exempt(core("fdn.unheard_of", b"\xc0"))
    mallory.connection.send_exempt(Envelope(Kind.EVENT, "x"))
    mallory.connection.send_exempt(Envelope(200))
    await until(lambda: one.control.stats().malformed + one.control.stats().unknown_kinds >= 11)
    assert (one.control.stats().malformed, one.control.stats().unknown_kinds) == (8, 3)
    dropped = [record for record in caplog.records if "dropped" in record.message]
    assert len(dropped) == 4  # the 1st, 2nd, 4th and 8th
    assert one.sees(two)
    assert set(one.last.members) == {one.node, two.node}


@virtual
async def test_clients_have_no_say_in_the_cores():
    plane = Plane(MemoryNetwork()).start()
    client = await plane.heard_from(Identity("client-1"), Role.CLIENT)
    plane.control.requests.answers = {"fdn.ping": lambda payload: "pong"}
    gossip = swim.messages.Gossip((swim.Claim(NodeId("x-id"), (1, 0), swim.Status.ALIVE),))
    client.connection.send_exempt(core("fdn.swim", swim.encode(gossip)))
    client.connection.send_exempt(Envelope(Kind.CALL, "fdn.ping", 3, body=body(None)))
    envelopes = await client.inbox.count(2)
    assert said(envelopes[1]) == "pong"
    assert plane.control.stats().unknown_kinds == 1
    assert set(plane.last.members) == {"me-id"}


@virtual
async def test_a_record_that_cannot_be_read_says_nothing():
    network = MemoryNetwork()
    one, two = await pair(network)
    assert two.control._records is not None
    two.control._feed_records(records.Publish(b"\xc1"))
    await until(lambda: one.last.offers[two.node] != OFFERS)
    assert one.last.offers[two.node] == b"\xc0"
    assert one.last.members[two.node].state is NodeState.SERVING
    two.control._feed_records(records.Publish(msgspec.msgpack.encode({"state": "of a later version"})))
    two.control._feed_records(records.Publish(msgspec.msgpack.encode(NodeRecord(offers=msgspec.Raw(OFFERS)))))
    await until(lambda: one.last.offers[two.node] == OFFERS)


@virtual
async def test_asking_ourselves_another_and_nobody():
    network = MemoryNetwork()
    one, two = await pair(network)
    for plane in (one, two):
        plane.control.requests.answers = {
            "fdn.who": functools.partial(lambda node, payload: [node, payload], plane.node)
        }
    assert await one.control.ask(one.node, "fdn.who", 1, 1.0) == [one.node, 1]
    assert await one.control.ask(two.node, "fdn.who", 2, 1.0) == [two.node, 2]
    with pytest.raises(Unreachable, match="nobody-id"):
        await one.control.ask("nobody-id", "fdn.who", 3, 1.0)


@virtual
async def test_a_met_node_without_endpoints_is_no_member():
    plane = Plane(MemoryNetwork()).start()
    plane.control.on_met(Identity("bare-id", "bare"), True)
    assert set(plane.last.members) == {"me-id"}


# -- life


@virtual
async def test_closing_ends_everything():
    network = MemoryNetwork()
    one, two = await pair(network)
    await two.control.close("leaving")
    views, beats, dials = len(two.views), two.beats, len(two.transport.dials)
    two.control.offer(OFFERS, draining=True)
    two.control.on_links_changed()
    two.control.on_beat()
    two.control.leave("late")
    await until(lambda: one.status(two) == "dead")
    await asyncio.sleep(10)
    assert (len(two.views), two.beats, len(two.transport.dials)) == (views, beats, dials)
    await two.control.close("leaving")


@virtual
async def test_closing_what_was_never_started():
    plane = Plane(MemoryNetwork())
    plane.control.leave("never was")
    await plane.control.close("leaving")
    await spin()
    assert (plane.views, plane.facts) == ([], [])


@virtual
async def test_counters():
    network = MemoryNetwork()
    one, two = await pair(network)
    await until(lambda: one.control.stats().swim.probes > 3)
    stats = one.control.stats()
    assert (stats.swim.members, stats.records.records, stats.sessions.open) == (1, 2, 2)
    assert set(stats.links) == {f"{two.node} coordination", f"{two.node} gossip"}
    assert set(stats.listeners) == {"coordination", "gossip"}
    assert (stats.malformed, stats.unknown_kinds) == (0, 0)
    assert one.control.view().members[two.node].rtt_us is not None
    assert one.control.view().members[one.node].rtt_us is None


@virtual
async def test_the_next_view_can_be_waited_for():
    plane = Plane(MemoryNetwork()).start()
    one, other = plane.control.next_view(), plane.control.next_view()
    other.cancel()
    await spin()
    assert not one.done()
    plane.control.offer(msgspec.msgpack.encode("new"), draining=False)
    assert one.done()
    assert plane.last.offers["me-id"] == msgspec.msgpack.encode("new")
    await spin()
    assert plane.control._view_waiters == set()


@virtual
async def test_versions_of_records():
    network = MemoryNetwork()
    assert Plane(network, "never-started").control.record_version("me-id") is None
    one, two = await pair(network)
    assert one.control.node == one.node
    assert one.control.record_version(two.node) == two.control.record_version(two.node) == (1, 1)
    assert one.control.record_version("nobody-id") is None
    two.control.offer(msgspec.msgpack.encode("new"), draining=False)
    await until(lambda: one.control.record_version(two.node) == (1, 2))


# -- large messages of the cores


LONG = msgspec.msgpack.encode({"names": ["n" * 90] * 600})  # 55 KB of offers


@virtual
async def test_a_long_record_goes_in_pieces():
    one, two = await pair(MemoryNetwork())
    one.control.offer(LONG, draining=False)
    await until(lambda: two.last.offers[one.node] == LONG)
    assert one.control.stats().bulk.sent.delivered == 1
    assert two.control.stats().bulk.received.delivered == 1
    assert two.control.stats().malformed == 0


@virtual
async def test_who_joins_late_is_sent_all_records_in_pieces():
    network = MemoryNetwork()
    one, two = await pair(network)
    one.control.offer(LONG, draining=False)
    two.control.offer(LONG, draining=False)
    three = Plane(network, "three").start()
    await three.control.join([one.endpoint])
    await until(lambda: all(three.last.offers.get(plane.node) == LONG for plane in (one, two)))
    assert three.control.stats().bulk.received.delivered >= 1


@virtual
async def test_who_does_not_speak_bulk_is_sent_everything_whole():
    network = MemoryNetwork()
    one, two = Plane(network, "one").start(), Plane(network, "two", speaks=()).start()
    await two.control.join([one.endpoint])
    await until(lambda: one.sees(two) and two.sees(one))
    one.control.offer(LONG, draining=False)
    await until(lambda: two.last.offers[one.node] == LONG)
    assert one.control.stats().bulk.sent.pieces == 0


@virtual
async def test_pieces_of_strangers_and_bulk_in_bulk_are_dropped_and_counted(caplog: pytest.LogCaptureFixture):
    network = MemoryNetwork()
    one, two = await pair(network)
    piece = core(BULK, encode(Piece(1, "fdn.records", 100, 0, b"x")))
    silent = await one.heard_from(Identity("silent-id", "silent", (1, 0), {}))  # no endpoints: never a member
    silent.connection.send_exempt(piece)
    await until(lambda: one.control.stats().malformed == 1)
    assert "bulk from silent-id, which is no living member" in caplog.text
    assert one.control.stats().bulk.received.held == 0
    two.control.bulk.send(one.node, BULK, b"bulk in bulk")
    await until(lambda: one.control.stats().unknown_kinds == 1)


@virtual
async def test_pieces_of_the_dead_are_forgotten():
    one, two = await pair(MemoryNetwork())
    two.control.links.send(one.node, GOSSIP, core(BULK, encode(Piece(1, "fdn.records", 10**6, 0, b"x"))))
    await until(lambda: one.control.stats().bulk.received.held == 1)
    one.control.bulk.send(two.node, "fdn.test", bytes(10**6))
    two.control.leave("enough")
    await until(lambda: one.control.stats().bulk.received.held == 0)
    assert one.control.stats().bulk.sent.queued == 0

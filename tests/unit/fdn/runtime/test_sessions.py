from typing import Any

import msgspec
import pytest

from fdn.runtime.sessions import Session, Sessions
from tests.unit.fdn.harness import hello
from tests.unit.fdn.runtime.harness import GARBAGE, FakeListener, batch, greeter, identity, said
from transports.channel import Channel
from transports.transport import Batch
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Hello, Identity, Refused, RefusedCode, Role, Welcome

CAST = Envelope(Kind.CAST, "t.cast")


class Door:
    """Sessions with one listener a channel, and what they told."""

    def __init__(self, sessions_max: int = 100, **greeting: Any) -> None:
        self.listeners = {channel: FakeListener() for channel in Channel}
        self.opened: list[Session] = []
        self.refused: list[tuple[Hello, Refused]] = []
        self.closed: list[Session] = []
        self.sessions = Sessions(
            greeter(credit=(64, 4096), **greeting),
            sessions_max,
            (64, 4096),
            self.opened.append,
            lambda hello, answer: self.refused.append((hello, answer)),
            self.closed.append,
        )

    @property
    def listener(self) -> FakeListener:
        return self.listeners[Channel.DATA]

    def of(self, received: Batch, channel: Channel = Channel.DATA) -> Session | None:
        return self.sessions.of(channel, self.listeners[channel], received)

    def enter(self, name: str, source: bytes, channel: Channel = Channel.DATA, **said: Any) -> Session:
        session = self.of(batch(hello(channel, identity=identity(name), **said), source=source), channel)
        assert session is not None
        return session


def test_a_good_hello_opens_a_session_and_is_answered():
    door = Door()
    session = door.enter("n1", b"s1", epoch=77)
    ((source, answer),) = door.listener.sent
    assert (source, answer.kind) == (b"s1", Kind.WELCOME)
    told = said(answer, Welcome)
    assert (told.identity.node, told.epoch, told.credit) == ("me-id", 77, (64, 4096))
    assert (session.peer, session.channel, session.is_client, session.key) == ("n1-id", Channel.DATA, False, None)
    assert door.opened == [session] == list(door.sessions.open_sessions())
    assert door.of(batch(CAST)) is session
    assert door.sessions.stats().admitted == door.sessions.stats().open == 1


def test_the_welcome_leaves_before_anybody_hears_of_the_session():
    door = Door()
    kinds: list[list[int]] = []
    door.sessions._on_open = lambda session: kinds.append(door.listener.kinds)
    door.enter("n1", b"s1")
    assert kinds == [[Kind.WELCOME]]


def test_what_follows_the_hello_in_its_batch_belongs_to_the_session():
    door = Door()
    received = batch(hello(Channel.DATA, identity=identity("n1")), CAST)
    assert door.of(received) is not None
    assert [envelope.kind for envelope in received.envelopes] == [Kind.CAST]


def test_a_client_answers_to_its_role():
    door = Door()
    session = door.enter("c1", b"s1", role=Role.CLIENT)
    assert session.is_client
    session.answer(Envelope(Kind.REPLY, id=5))
    assert door.listener.sent[-1] == (b"s1", Envelope(Kind.REPLY, id=5))


def test_nothing_is_believed_before_a_hello():
    door = Door()
    door.enter("n1", b"s1")
    assert door.of(batch(CAST, CAST, CAST, source=b"s2")) is None
    assert door.of(batch(CAST), Channel.EVENTS) is None  # a session of one channel is none of another
    assert door.sessions.stats().unintroduced == 4
    assert door.listener.kinds == [Kind.WELCOME]
    assert not door.listeners[Channel.EVENTS].sent


@pytest.mark.parametrize("kind", [Kind.BYE, Kind.WELCOME, Kind.CORE, 200])
def test_no_other_kind_introduces(kind: int):
    door = Door()
    assert door.of(batch(Envelope(kind), hello(Channel.DATA, identity=identity("n1")))) is None
    assert door.sessions.stats().unintroduced == 2
    assert not door.listener.sent


def test_a_refused_hello_opens_nothing():
    door = Door()
    assert door.of(batch(hello(Channel.DATA, identity=identity("n1"), cluster="other"))) is None
    assert said(door.listener.sent[0][1], Refused).code == RefusedCode.WRONG_CLUSTER
    ((heard, answer),) = door.refused
    assert (heard.identity.name, answer.code) == ("n1", RefusedCode.WRONG_CLUSTER)
    assert door.of(batch(CAST)) is None
    assert door.sessions.stats().refused == 1
    assert door.sessions.stats().open == 0


@pytest.mark.parametrize(
    "body",
    [
        GARBAGE,
        msgspec.Raw(b"\xc0"),
        msgspec.Raw(msgspec.msgpack.encode({"versions": [1, 1], "cluster": "fdn"})),
        msgspec.Raw(msgspec.msgpack.encode({"versions": "1-1"})),
        msgspec.Raw(b"\xa2\xff\xfe"),
        msgspec.Raw(b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"),
    ],
)
def test_a_malformed_hello_is_told_so(body: msgspec.Raw):
    door = Door()
    assert door.of(batch(Envelope(Kind.HELLO, body=body))) is None
    told = said(door.listener.sent[0][1], Refused)
    assert told.code == RefusedCode.MALFORMED
    assert len(told.reason) <= 500
    assert door.sessions.stats().refused == 1
    assert not door.refused  # there is no HELLO to show


@pytest.mark.parametrize(
    "bloated",
    [
        {"identity": Identity("n1-id", "n" * 100_000)},
        {"identity": identity("n1"), "cluster": "\0" * 100_000},
        {"identity": Identity("n1-id", "n1", (1, 0), {str(i): "memory://x" for i in range(10_000)})},
    ],
)
def test_a_hello_of_absurd_length_is_neither_kept_nor_echoed(bloated: dict[str, Any]):
    door = Door()
    assert door.of(batch(hello(Channel.DATA, **bloated))) is None
    told = said(door.listener.sent[0][1], Refused)
    assert told.code == RefusedCode.MALFORMED
    assert len(told.reason) <= 500
    assert not door.refused


def test_a_second_hello_begins_anew():
    door = Door()
    first = door.enter("n1", b"s1", epoch=1)
    first.grant.on_received(60, 4000)
    second = door.enter("n1", b"s1", epoch=2)
    assert door.closed == [first]
    assert door.sessions.open_sessions() == (second,)
    assert second.grant.messages_received == 0


def test_a_second_hello_that_is_refused_ends_the_session():
    door = Door()
    first = door.enter("n1", b"s1")
    assert door.of(batch(hello(Channel.DATA, identity=identity("n1"), cluster="other"))) is None
    assert door.closed == [first]
    assert door.of(batch(CAST)) is None


def test_closing_is_idempotent():
    door = Door()
    session = door.enter("n1", b"s1")
    door.sessions.close(session)
    door.sessions.close(session)
    assert door.closed == [session]
    assert door.of(batch(CAST)) is None
    assert door.listener.kinds == [Kind.WELCOME]  # whoever said BYE itself is owed none


def test_a_dropped_peer_is_told_on_every_connection():
    door = Door()
    gone = [door.enter("n1", b"s1"), door.enter("n1", b"s2"), door.enter("n1", b"s3", Channel.EVENTS)]
    other = door.enter("n2", b"s4")
    door.sessions.drop_peer("n1-id")
    assert door.closed == gone
    assert door.sessions.open_sessions() == (other,)
    byes = [(source, said(told, Bye)) for source, told in door.listener.sent if told.kind == Kind.BYE]
    assert byes == [(b"s1", Bye("you are held dead, or have left")), (b"s2", Bye("you are held dead, or have left"))]
    assert door.listeners[Channel.EVENTS].kinds == [Kind.WELCOME, Kind.BYE]
    door.sessions.drop_peer("nobody")


def test_a_goodbye_that_did_not_fit_is_said_when_the_peer_is_heard_again():
    door = Door()
    door.enter("n1", b"s1")
    door.listener.full = True
    door.sessions.drop_peer("n1-id")
    assert door.of(batch(CAST)) is None  # it is still full
    door.listener.full = False
    for _ in range(3):
        assert door.of(batch(CAST)) is None
    assert door.listener.kinds == [Kind.WELCOME, Kind.BYE]  # once
    assert door.sessions.stats().unintroduced == 4


def test_goodbyes_owed_are_bounded_and_the_oldest_forgotten():
    door = Door(sessions_max=3000)
    for number in range(1025):
        door.enter(f"n{number}", b"s%d" % number)
    door.listener.full = True
    for number in range(1025):
        door.sessions.drop_peer(f"n{number}-id")
    door.listener.full = False
    door.listener.sent.clear()
    for source in (b"s0", b"s1", b"s1024"):
        door.of(batch(CAST, source=source))
    assert [source for source, _ in door.listener.sent] == [b"s1", b"s1024"]


def test_a_peer_has_four_sessions_a_channel_and_the_oldest_goes():
    door = Door()
    sessions = [door.enter("n1", b"s%d" % number) for number in range(4)]
    elsewhere = door.enter("n1", b"e0", Channel.EVENTS)
    assert not door.closed
    door.of(batch(CAST, source=b"s0"))  # being used does not save the oldest
    fifth = door.enter("n1", b"s4")
    assert door.closed == [sessions[0]]
    assert set(door.sessions.open_sessions()) == {*sessions[1:], elsewhere, fifth}
    assert said(door.listener.sent[-2][1], Bye).reason == "too many sessions of one peer"
    assert door.sessions.stats().evicted == 0


def test_lanes_are_not_in_one_anothers_way():
    door = Door()
    for lane in range(64):
        session = door.enter("n1", b"l%d" % lane, lane=lane)
        assert session.lane == lane
    assert not door.closed
    again = [door.enter("n1", b"again%d" % number, lane=5) for number in range(4)]
    assert [session.source for session in door.closed] == [b"l5"]
    assert set(again) < set(door.sessions.open_sessions())


@pytest.mark.parametrize("lane", [-1, 64, 2**40])
def test_a_lane_that_cannot_be_is_refused(lane: int):
    door = Door()
    assert door.of(batch(hello(Channel.DATA, identity=identity("n1"), lane=lane))) is None
    assert said(door.listener.sent[-1][1], Refused).code == RefusedCode.MALFORMED


def test_sessions_that_ended_make_room_for_others():
    door = Door()
    for number in range(20):
        door.sessions.close(door.enter("n1", b"s%d" % number))
    assert door.listener.kinds == [Kind.WELCOME] * 20
    assert door.sessions._by_peer == {}


def test_what_a_node_last_said_of_itself():
    door = Door()
    assert door.sessions.identity_of("n1-id") is None
    door.enter("n1", b"s1", Channel.EVENTS)
    latest = Identity("n1-id", "n1", (2, 0))
    assert door.of(batch(hello(Channel.EVENTS, identity=latest), source=b"s2"), Channel.EVENTS) is not None
    assert door.sessions.identity_of("n1-id") == latest
    door.enter("c1", b"s3", role=Role.CLIENT)
    assert door.sessions.identity_of("c1-id") is None  # no client is a member
    door.sessions.drop_peer("n1-id")
    assert door.sessions.identity_of("n1-id") is None


def test_a_borrowed_identity_does_not_silence_its_owner():
    door = Door()
    owner = door.enter("n1", b"s1")
    door.enter("n1", b"s2")
    assert door.of(batch(CAST, source=b"s1")) is owner
    assert Kind.BYE not in door.listener.kinds


def test_the_longest_unused_goes_when_there_are_too_many(caplog: pytest.LogCaptureFixture):
    door = Door(sessions_max=3)
    first, second, third = (door.enter(f"n{number}", b"s%d" % number) for number in (1, 2, 3))
    door.of(batch(CAST, source=b"s1"))
    assert door.sessions.open_sessions() == (second, third, first)
    fourth = door.enter("n4", b"s4")
    assert door.closed == [second]
    assert door.sessions.open_sessions() == (third, first, fourth)
    assert door.sessions.stats().evicted == 1
    assert (b"s2", Kind.BYE) in [(source, told.kind) for source, told in door.listener.sent]
    assert "links.sessions_max=3" in caplog.text


def test_room_for_one_session():
    door = Door(sessions_max=1)
    first = door.enter("n1", b"s1")
    second = door.enter("n1", b"s2")
    assert door.closed == [first]
    assert door.sessions.open_sessions() == (second,)

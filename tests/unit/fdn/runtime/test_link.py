import asyncio
import itertools
import random
from typing import Any

import msgspec
import pytest

from fdn.errors import Unreachable
from fdn.runtime.greeting import Greeter
from fdn.runtime.link import Link, LinkState
from fdn.settings import LinkSettings
from tests.unit.fdn.harness import body, until, virtual
from tests.unit.fdn.runtime.harness import batch, spin
from tests.unit.transports.harness import Inbox
from transports.channel import Channel
from transports.memory import MemoryConnection, MemoryListener, MemoryNetwork, MemoryTransport
from transports.transport import Batch, ConnectionEvent, EventKind
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Hello, Identity, Refused, Welcome

HERE = "memory://peer.data"


class Owner:
    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def on_link_open(self, link: Link, welcome: Welcome) -> None:
        self.log.append(("open", welcome.identity.node))

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        self.log.append(("refused", refused.code))

    def on_link_lost(self, link: Link, event: ConnectionEvent, was_open: bool, dropped: int) -> None:
        self.log.append(("lost", event.kind, was_open, dropped))

    def on_link_batch(self, link: Link, batch: Batch) -> None:
        self.log.append(("batch", batch.envelopes[0].kind))

    @property
    def lost(self) -> list[EventKind]:
        return [entry[1] for entry in self.log if entry[0] == "lost"]


class CountingTransport(MemoryTransport):
    """Remembers when it was asked to dial."""

    dialled_at: list[float]

    def dial(self, *arguments: Any) -> MemoryConnection:
        self.dialled_at.append(self.loop.time())
        return super().dial(*arguments)


class Bench:
    """A link, and a peer that answers as it is told to."""

    def __init__(self, *, kept: bool = False, endpoint: str = HERE, peer: str = "peer-1", **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        self.network = MemoryNetwork()
        self.transport = CountingTransport(self.network, loop)
        self.transport.dialled_at = []
        self.far = MemoryTransport(self.network, loop)
        self.owner = Owner()
        self.inbox = Inbox()
        self.answer: Any = Welcome(1, "fdn", Identity("peer-1"), 0)
        self.sources: list[bytes] = []
        self.listener: MemoryListener | None = None
        self.link = Link(
            transport=self.transport,
            channel=Channel.DATA,
            endpoint=endpoint,
            peer=peer,
            kept=kept,
            greeter=Greeter("fdn", Identity("me-1"), "f"),
            owner=self.owner,
            settings=LinkSettings(**{"redial_min_s": 0.1, "redial_max_s": 2.0} | settings),
            loop=loop,
            rng=random.Random(7),
        )

    def listen(self) -> None:
        self.listener = self.far.listen(Channel.DATA, HERE, self._receive)

    def say(self, kind: Kind, value: object) -> None:
        assert self.listener is not None
        self.listener.send(self.sources[-1], Envelope(kind, body=value if type(value) is msgspec.Raw else body(value)))

    def _receive(self, batch: Batch) -> None:
        self.inbox(batch)
        self.sources.append(batch.source)
        if batch.envelopes[0].kind == Kind.HELLO and self.answer is not None:
            hello = msgspec.msgpack.decode(batch.envelopes[0].body, type=Hello)
            match self.answer:
                case Welcome():
                    self.say(Kind.WELCOME, msgspec.structs.replace(self.answer, epoch=self.answer.epoch or hello.epoch))
                case Refused():
                    self.say(Kind.REFUSED, self.answer)
                case raw:
                    self.say(Kind.WELCOME, raw)


@virtual
async def test_it_dials_on_first_use_says_hello_and_waits_for_welcome():
    bench = Bench()
    bench.listen()
    assert bench.link.state is LinkState.IDLE
    connection = await bench.link.wait_open()
    assert bench.link.connection is connection
    assert bench.owner.log == [("open", "peer-1")]
    (hello,) = bench.inbox.envelopes
    said = msgspec.msgpack.decode(hello.body, type=Hello)
    assert (said.cluster, said.identity.node, said.channel, said.epoch) == ("fdn", "me-1", "data", bench.link.epoch)
    assert await bench.link.wait_open() is connection
    assert len(bench.transport.dialled_at) == 1


@virtual
async def test_nothing_passes_before_the_welcome_and_all_of_it_after():
    bench = Bench()
    bench.listen()
    answer, bench.answer = bench.answer, None
    for number in range(3):
        assert bench.link.send_exempt(Envelope(Kind.REPLY, id=number))
    await asyncio.sleep(0.5)
    assert [e.kind for e in bench.inbox.envelopes] == [Kind.HELLO]
    bench.say(Kind.WELCOME, msgspec.structs.replace(answer, epoch=bench.link.epoch))
    await until(lambda: len(bench.inbox.envelopes) == 4)
    assert [e.id for e in bench.inbox.envelopes[1:]] == [0, 1, 2]


@virtual
async def test_what_is_held_is_bounded():
    bench = Bench(pending_messages_max=3)
    assert [bench.link.send_exempt(Envelope(Kind.REPLY)) for _ in range(5)] == [True] * 3 + [False] * 2
    await until(lambda: bench.owner.log)
    assert bench.owner.log == [("lost", EventKind.REFUSED, False, 3)]  # and dropped with the attempt
    assert bench.link.send_exempt(Envelope(Kind.REPLY))


@virtual
async def test_all_who_wait_learn_why_it_failed():
    bench = Bench()
    waiting = [asyncio.create_task(bench.link.wait_open()) for _ in range(3)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert len(bench.transport.dialled_at) == 1
    for outcome in outcomes:
        assert isinstance(outcome, Unreachable)
        assert "peer-1 cannot be reached on the data channel at memory://peer.data: refused" in str(outcome)


@virtual
async def test_who_gives_up_waiting_harms_no_other():
    bench = Bench()
    bench.listen()
    answer, bench.answer = bench.answer, None
    impatient, patient = (asyncio.create_task(bench.link.wait_open()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await until(lambda: impatient.cancelled() and bench.sources)
    assert len(bench.link._waiters) == 1
    bench.say(Kind.WELCOME, msgspec.structs.replace(answer, epoch=bench.link.epoch))
    assert await patient is bench.link.connection


@virtual
async def test_a_kept_link_redials_with_capped_jitter():
    bench = Bench(kept=True)
    began = asyncio.get_running_loop().time()
    bench.link.open()
    await asyncio.sleep(30)
    at = [when - began for when in bench.transport.dialled_at]
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    for attempt, pause in enumerate(pauses):
        most = min(2.0, 0.1 * 2**attempt)
        assert most / 2 <= pause <= most + 0.001
    assert len(set(pauses)) == len(pauses)  # not in step with others
    assert set(bench.owner.lost) == {EventKind.REFUSED}


@virtual
async def test_a_link_that_is_not_kept_is_dialled_by_use_and_not_more_often_than_a_kept_one():
    bench = Bench()
    for _ in range(2):
        with pytest.raises(Unreachable):
            await bench.link.wait_open()
        await asyncio.sleep(5)
    assert len(bench.transport.dialled_at) == 2
    before = asyncio.get_running_loop().time()
    for _ in range(20):
        with pytest.raises(Unreachable):
            await bench.link.wait_open()
    assert asyncio.get_running_loop().time() - before > 10


@virtual
async def test_pauses_begin_anew_once_it_was_open():
    bench = Bench(kept=True)
    bench.link.open()
    await asyncio.sleep(10)
    bench.listen()
    await until(lambda: bench.link.state is LinkState.OPEN)
    assert bench.listener is not None
    bench.listener.close()
    await until(lambda: bench.link.state is LinkState.WAITING)
    lost_at = asyncio.get_running_loop().time()
    dials = len(bench.transport.dialled_at)
    await until(lambda: len(bench.transport.dialled_at) > dials)
    assert bench.transport.dialled_at[-1] - lost_at <= 0.1


@virtual
async def test_news_that_the_peer_lives_ends_the_pause():
    bench = Bench(kept=True, redial_min_s=2.0)
    bench.link.open()
    await until(lambda: bench.link.state is LinkState.WAITING)
    bench.listen()
    bench.link.redial_now()
    await bench.link.wait_open()
    assert asyncio.get_running_loop().time() < 1000.5
    bench.link.redial_now()
    await asyncio.sleep(10)
    assert len(bench.transport.dialled_at) == 2  # the pause that was skipped is over for good


@virtual
async def test_pauses_begin_anew_once_there_is_news():
    bench = Bench(kept=True)
    bench.link.open()
    await asyncio.sleep(10)
    await until(lambda: bench.link.state is LinkState.WAITING)
    bench.link.redial_now()
    dials = len(bench.transport.dialled_at)
    await until(lambda: len(bench.transport.dialled_at) > dials)
    assert bench.transport.dialled_at[-1] - bench.transport.dialled_at[-2] <= 0.1


@virtual
async def test_a_pause_is_waited_out_once_however_many_ask():
    bench = Bench(redial_min_s=1.0)
    bench.link.open()
    await until(lambda: bench.owner.lost)
    for _ in range(3):
        bench.link.open()
        assert bench.link.state is LinkState.WAITING
    await asyncio.sleep(10)
    assert len(bench.transport.dialled_at) == 2


@virtual
async def test_every_attempt_has_a_link_epoch_of_its_own():
    bench = Bench(kept=True)
    bench.listen()
    bench.answer = Refused("leaving", "not now", retry=True)
    bench.link.open()
    await asyncio.sleep(5)
    epochs = [msgspec.msgpack.decode(e.body, type=Hello).epoch for e in bench.inbox.envelopes]
    assert len(epochs) > 3
    assert epochs == sorted(set(epochs))


@virtual
async def test_no_answer_within_the_handshake_timeout():
    bench = Bench(handshake_timeout_s=0.5)
    bench.listen()
    bench.answer = None
    with pytest.raises(Unreachable, match=r"no WELCOME within 0\.5 s"):
        await bench.link.wait_open()
    assert bench.owner.lost == [EventKind.UNREACHABLE]
    assert not bench.transport.connections


WRONG_WELCOMES = {
    "another node": (Welcome(1, "fdn", Identity("peer-2"), 0), "node peer-2 answers there now"),
    "another epoch": (Welcome(1, "fdn", Identity("peer-1"), 12345), "was not asked for"),
    "another version": (Welcome(9, "fdn", Identity("peer-1"), 0), "was not asked for"),
    "another cluster": (Welcome(1, "west", Identity("peer-1"), 0), "belongs to cluster 'west'"),
    "no welcome at all": (body({"version": 1}), "WELCOME cannot be read"),
    "text that is none": (msgspec.Raw(b"\xa1\xff"), "WELCOME cannot be read"),
    "a long story": (Welcome(1, "fdn", Identity("peer-1", "x" * 100_000), 0), "WELCOME cannot be read"),
    "a refusal": (Refused("name_taken", "it is mine"), "refused: it is mine"),
}


@pytest.mark.parametrize("case", WRONG_WELCOMES)
@virtual
async def test_a_welcome_that_cannot_be_believed(case: str):
    bench = Bench()
    bench.listen()
    bench.answer, why = WRONG_WELCOMES[case]
    with pytest.raises(Unreachable, match=why):
        await bench.link.wait_open()
    assert bench.link.connection is None
    assert not [entry for entry in bench.owner.log if entry[0] == "open"]
    assert not bench.transport.connections


@virtual
async def test_anybody_may_answer_where_nobody_is_expected():
    bench = Bench(peer="")
    bench.listen()
    await bench.link.wait_open()
    assert bench.owner.log == [("open", "peer-1")]


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1:1", "http://x", ""])
@virtual
async def test_an_endpoint_that_cannot_be_dialled_is_a_failure_like_any_other(endpoint: str):
    bench = Bench(kept=True, endpoint=endpoint)
    with pytest.raises(Unreachable):
        await bench.link.wait_open()
    await asyncio.sleep(10)
    assert set(bench.owner.lost) == {EventKind.FAILED}
    assert len(bench.owner.lost) > 3
    bench.link.close()


@virtual
async def test_a_goodbye_of_the_peer_ends_the_connection():
    bench = Bench(kept=True)
    bench.listen()
    await bench.link.wait_open()
    bench.say(Kind.BYE, Bye("too many sessions"))
    await until(lambda: bench.link.opened_count == 2)
    assert bench.owner.lost == [EventKind.CLOSED]


@virtual
async def test_what_comes_back_goes_to_the_owner_only_once_it_is_open():
    bench = Bench()
    bench.listen()
    answer, bench.answer = bench.answer, None
    bench.link.open()
    await until(lambda: bench.sources)
    bench.say(Kind.CALL, None)
    await asyncio.sleep(0.1)
    assert bench.owner.log == []
    bench.say(Kind.WELCOME, msgspec.structs.replace(answer, epoch=bench.link.epoch))
    bench.say(Kind.CALL, None)
    bench.say(Kind.WELCOME, msgspec.structs.replace(answer, epoch=bench.link.epoch))
    await until(lambda: len(bench.owner.log) == 3)
    assert bench.owner.log == [("open", "peer-1"), ("batch", Kind.CALL), ("batch", Kind.WELCOME)]


@virtual
async def test_close_is_for_good():
    bench = Bench(kept=True)
    bench.listen()
    await bench.link.wait_open()
    bench.link.close("stopping")
    bench.link.close()
    await until(lambda: bench.inbox.envelopes[-1].kind == Kind.BYE)
    await asyncio.sleep(10)
    assert not bench.transport.connections
    assert len(bench.transport.dialled_at) == 1
    assert not bench.link.send_exempt(Envelope(Kind.REPLY))
    with pytest.raises(Unreachable, match="the link is closed"):
        await bench.link.wait_open()
    assert bench.owner.lost == []


@virtual
async def test_close_while_others_wait():
    bench = Bench()
    bench.listen()
    bench.answer = None
    waiting = asyncio.create_task(bench.link.wait_open())
    await asyncio.sleep(0.1)
    bench.link.close()
    with pytest.raises(Unreachable, match="the link is closed"):
        await waiting


@virtual
async def test_hanging_up_leaves_it_ready_for_the_next_use():
    bench = Bench()
    bench.listen()
    await bench.link.wait_open()
    bench.link.hang_up("idle")
    assert bench.link.state is LinkState.IDLE
    await until(lambda: bench.inbox.envelopes[-1].kind == Kind.BYE)
    await bench.link.wait_open()
    assert bench.link.opened_count == 2
    assert bench.owner.lost == []


@virtual
async def test_a_refusal_is_told_to_the_owner_and_a_kept_link_goes_on():
    bench = Bench(kept=True)
    bench.listen()
    answer, bench.answer = bench.answer, Refused("leaving", "not now", retry=True)
    bench.link.open()
    await until(lambda: len(bench.owner.log) == 3)
    assert bench.owner.log == [("refused", "leaving")] * 3
    bench.answer = answer
    await until(lambda: bench.link.state is LinkState.OPEN)


# -- what an end takes with it


@virtual
async def test_the_credit_of_the_welcome_counts():
    bench = Bench()
    bench.listen()
    bench.answer = msgspec.structs.replace(bench.answer, credit=(1, 1 << 20))
    connection = await bench.link.wait_open()
    for number in range(3):
        connection.send(Envelope(Kind.CAST, id=number))
        await spin()
    assert [e.id for e in bench.inbox.envelopes[1:]] == [0]
    connection.grant(3, 1 << 20)
    await until(lambda: len(bench.inbox.envelopes) == 4)


@virtual
async def test_an_open_link_that_is_lost_says_what_was_dropped():
    bench = Bench()
    bench.listen()
    bench.answer = msgspec.structs.replace(bench.answer, credit=(1, 1 << 20))
    connection = await bench.link.wait_open()
    for number in range(5):
        connection.send(Envelope(Kind.CAST, id=number))
        await spin()
    assert bench.listener is not None
    bench.listener.close()
    await until(lambda: bench.owner.lost)
    assert bench.owner.log[1:] == [("lost", EventKind.CLOSED, True, 4)]
    assert (bench.link.state, bench.link.connection) == (LinkState.IDLE, None)
    assert bench.link.last_failure == "closed: closed by the peer"


@virtual
async def test_no_stale_queue_outlives_an_attempt():
    bench = Bench(kept=True)
    for number in range(3):
        assert bench.link.send_exempt(Envelope(Kind.REPLY, id=number))
    await until(lambda: bench.owner.lost)
    bench.listen()
    await bench.link.wait_open()
    await spin()
    assert [e.kind for e in bench.inbox.envelopes] == [Kind.HELLO]


@virtual
async def test_a_goodbye_instead_of_a_welcome():
    bench = Bench()
    bench.listen()
    bench.answer = None
    waiting = asyncio.create_task(bench.link.wait_open())
    await until(lambda: bench.sources)
    bench.say(Kind.BYE, Bye("too many sessions"))
    with pytest.raises(Unreachable, match="the peer has ended our session"):
        await waiting
    assert bench.owner.log == [("lost", EventKind.CLOSED, False, 0)]


@virtual
async def test_opened_and_lost_before_the_waiter_ran():
    bench = Bench()
    bench.listen()
    answer, bench.answer = bench.answer, None
    waiting = asyncio.create_task(bench.link.wait_open())
    await until(lambda: bench.sources)
    epoch = bench.link.epoch
    bench.link._on_batch(batch(Envelope(Kind.WELCOME, body=body(msgspec.structs.replace(answer, epoch=epoch)))), epoch)
    bench.link._on_batch(batch(Envelope(Kind.BYE)), epoch)
    with pytest.raises(Unreachable, match="the peer has ended our session"):
        await waiting


@virtual
async def test_a_late_word_of_an_earlier_attempt_is_not_believed():
    bench = Bench(kept=True, handshake_timeout_s=0.5)
    bench.listen()
    answer, bench.answer = bench.answer, None
    bench.link.open()
    await until(lambda: len(bench.sources) == 2)
    late = bench.link.epoch - 1
    bench.link._on_batch(batch(Envelope(Kind.WELCOME, body=body(msgspec.structs.replace(answer, epoch=late)))), late)
    bench.link._on_event(ConnectionEvent(EventKind.CLOSED, HERE), late)
    bench.link._on_handshake_timeout(late)
    assert bench.link.state is LinkState.DIALING
    assert bench.owner.lost == [EventKind.UNREACHABLE]
    bench.link.close()


@pytest.mark.parametrize("kind", [Kind.WELCOME, Kind.REFUSED])
@pytest.mark.parametrize(
    "content",
    [b"\xc1", b"\xc0", b"\x81\xa1x" + b"\x91" * 10_000 + b"\xc0", msgspec.msgpack.encode({"reason": "x" * 20_000})],
    ids=["garbage", "nil", "deep", "long"],
)
@virtual
async def test_answers_that_cannot_be_read(kind: Kind, content: bytes):
    bench = Bench()
    bench.listen()
    bench.answer = None
    bench.link.open()
    await until(lambda: bench.sources)
    bench.link._on_batch(batch(Envelope(kind, body=msgspec.Raw(content))), bench.link.epoch)
    assert bench.owner.log == [("lost", EventKind.FAILED, False, 0)]
    assert f"{kind.name} cannot be read" in bench.link.last_failure


@virtual
async def test_what_was_queued_leaves_before_a_goodbye():
    bench = Bench()
    bench.listen()
    await bench.link.wait_open()
    bench.link.send_exempt(Envelope(Kind.REPLY, id=1))
    bench.link.close("stopping")
    await until(lambda: len(bench.inbox.envelopes) == 3)
    reply, bye = bench.inbox.envelopes[1:]
    assert (reply.kind, reply.id, bye.kind) == (Kind.REPLY, 1, Kind.BYE)
    assert msgspec.msgpack.decode(bye.body, type=Bye) == Bye("stopping")


@virtual
async def test_closing_during_a_pause_ends_the_redials():
    bench = Bench(kept=True)
    bench.link.open()
    await until(lambda: bench.link.state is LinkState.WAITING)
    bench.link.close()
    bench.link.redial_now()
    bench.link.open()
    bench.link.hang_up("idle")
    await asyncio.sleep(60)
    assert bench.link.state is LinkState.CLOSED
    assert len(bench.transport.dialled_at) == 1

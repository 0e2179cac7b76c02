import asyncio
from typing import Any

import msgspec

from fdn.messaging.client_probe import ClientProbe
from tests.unit.fdn.harness import virtual
from tests.unit.fdn.runtime.harness import FakeListener
from transports.wire.envelope import Kind


class Held:
    """As much of a session as a probe needs."""

    source = b"source"

    def __init__(self) -> None:
        self.listener = FakeListener()


def probe() -> tuple[ClientProbe, list[Any]]:
    given_up: list[Any] = []
    made: ClientProbe

    def give_up(session: Any, reason: str) -> None:
        given_up.append(session)
        made.release(session)

    made = ClientProbe(give_up, asyncio.get_running_loop())
    return made, given_up


@virtual
async def test_who_is_watched_hears_a_word_without_meaning_each_second():
    watching, given_up = probe()
    one: Any = Held()
    watching.watch(one)
    watching.watch(one)
    await asyncio.sleep(3.5)
    assert [e.kind for _, e in one.listener.sent] == [Kind.CREDIT] * 3
    assert msgspec.msgpack.decode(one.listener.sent[0][1].body) == [0, 0, 0]
    watching.release(one)
    await asyncio.sleep(1)
    assert len(one.listener.sent) == 4
    watching.release(one)
    await asyncio.sleep(5)
    assert len(one.listener.sent) == 4
    watching.watch(one)
    await asyncio.sleep(1.5)
    assert len(one.listener.sent) == 5
    watching.close()
    watching.close()
    await asyncio.sleep(5)
    assert len(one.listener.sent) == 5
    assert given_up == []


@virtual
async def test_who_is_gone_is_given_up_and_who_is_slow_is_not():
    watching, given_up = probe()
    slow: Any = Held()
    gone: Any = Held()
    slow.listener.full = True
    gone.listener.gone = True
    watching.watch(slow)
    watching.watch(gone)
    await asyncio.sleep(10)
    assert given_up == [gone]

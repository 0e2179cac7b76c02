"""Many deadlines on one timer: never early, late by a tick at most, and nothing is left of what was forgotten."""

import asyncio
import random

from fdn.messaging.deadlines import TICK_S, Deadlines
from fdn.testing import virtual


class Expired:
    """What has expired, and when."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.at = {}
        self.deadlines = Deadlines(self.on_expired, self.loop)

    def on_expired(self, thing):
        assert thing not in self.at, "it expired twice"
        self.at[thing] = self.loop.time()


@virtual
async def test_each_expires_within_a_tick_and_never_early():
    expired = Expired()
    chance = random.Random(7)
    began = expired.loop.time()
    wanted = {number: began + chance.uniform(0, 3) for number in range(2000)}
    for number, at in wanted.items():
        expired.deadlines.add(number, at)
    await asyncio.sleep(4)
    assert expired.at.keys() == wanted.keys()
    late = [expired.at[number] - at for number, at in wanted.items()]
    assert min(late) >= 0
    assert max(late) <= TICK_S + 1e-6
    assert len(expired.deadlines) == expired.deadlines.buckets == 0


@virtual
async def test_one_that_is_added_later_and_is_due_earlier_does_not_wait_for_the_first():
    expired = Expired()
    now = expired.loop.time()
    expired.deadlines.add("late", now + 10)
    expired.deadlines.add("early", now + 1)
    await asyncio.sleep(2)
    assert list(expired.at) == ["early"]
    await asyncio.sleep(9)
    assert list(expired.at) == ["early", "late"]


@virtual
async def test_what_was_forgotten_does_not_expire():
    expired = Expired()
    now = expired.loop.time()
    held = expired.deadlines.add("forgotten", now + 1)
    expired.deadlines.add("kept", now + 1)
    held.discard("forgotten")
    await asyncio.sleep(2)
    assert list(expired.at) == ["kept"]


@virtual
async def test_one_may_forget_another_and_add_a_third_while_it_expires():
    loop = asyncio.get_running_loop()
    log = []

    def on_expired(thing):
        log.append(thing)
        if thing != "third":
            held.difference_update({"first", "second"})
            deadlines.add("third", loop.time() + 1)

    deadlines = Deadlines(on_expired, loop)
    held = deadlines.add("first", loop.time() + 1)
    assert deadlines.add("second", loop.time() + 1) is held
    await asyncio.sleep(3)
    assert len(log) == 2
    assert log[1] == "third"


@virtual
async def test_memory_follows_what_is_held():
    expired = Expired()
    now = expired.loop.time()
    for number in range(50_000):  # each in a bucket of its own, as calls with long and different timeouts would be
        expired.deadlines.add(number, now + 100 + number).discard(number)
    assert len(expired.deadlines) == 0
    assert expired.deadlines.buckets <= 1024


@virtual
async def test_closed_it_expires_nothing_more():
    expired = Expired()
    expired.deadlines.add("never", expired.loop.time() + 1)
    expired.deadlines.close()
    await asyncio.sleep(2)
    assert expired.at == {}

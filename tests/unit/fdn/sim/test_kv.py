import functools

import msgspec
import pytest

from fdn.sim.history import History, Outcome
from fdn.sim.kv import Command, KvClient, KvClientSettings, KvStore, Reply, Request
from fdn.sim.linearizability import check
from fdn.sim.simulation import Simulation


def apply(store, serial, op, key, input=None, client="c"):
    return store.apply(msgspec.msgpack.encode(Command(client, serial, op, key, input)))


def test_put_delete_and_cas():
    store = KvStore()
    apply(store, 1, "put", "x", "1")
    assert store.get("x") == "1"
    assert apply(store, 2, "cas", "x", ["2", "3"]) is False
    assert apply(store, 3, "cas", "x", ["1", "3"]) is True
    assert store.get("x") == "3"
    apply(store, 4, "delete", "x")
    assert store.get("x") is None
    with pytest.raises(ValueError, match="no command 'lock'"):
        apply(store, 5, "lock", "x")


def test_a_request_that_comes_again_has_its_effect_once():
    store = KvStore()
    assert apply(store, 1, "cas", "x", [None, "1"]) is True
    apply(store, 1, "put", "x", "2", client="other")
    assert apply(store, 1, "cas", "x", [None, "1"]) is True  # what it was told the first time
    apply(store, 2, "put", "x", "3")
    apply(store, 1, "put", "x", "late")
    assert store.get("x") == "3"


def test_a_dump_is_all_of_it():
    store = KvStore()
    for number in range(10):
        apply(store, number + 1, "put", f"k{number}", str(number))
    again = KvStore(store.dump())
    assert again.dump() == store.dump()
    apply(again, 1, "put", "k0", "late")
    assert again.get("k0") == "0"


class Server:
    """One server, so whatever it does is linearizable; unless it serves reads from an old copy."""

    def __init__(self, is_stale, process):
        self.process = process
        self.is_stale = is_stale
        self.store = KvStore()
        self.old = self.store.dump()
        self.count = 0

    def on_start(self):
        pass

    def on_message(self, sender, message: Request):
        self.count += 1
        if self.count % 5 == 0:
            self.process.send(sender, Reply(message.serial, True, leader="s"))
            return
        if self.count % 7 == 0:
            return
        if message.op == "get":
            store = KvStore(self.old) if self.is_stale else self.store
            self.process.send(sender, Reply(message.serial, False, store.get(message.key)))
            return
        self.old = self.store.dump()
        result = apply(self.store, message.serial, message.op, message.key, message.input, sender)
        self.process.send(sender, Reply(message.serial, False, result))

    def on_tick(self):
        pass

    def next_deadline(self):
        return None

    def on_greeting(self, sender, greeting):
        pass

    def on_closed(self, peer):
        pass


def played(is_stale):
    simulation = Simulation(1)
    history = History(simulation.world)
    simulation.add("s", functools.partial(Server, is_stale))
    settings = KvClientSettings(servers=["s"], ends_at_s=30.0, patience_s=0.2)
    for number in range(3):
        simulation.add(f"c{number}", functools.partial(KvClient, settings, history, number))
    simulation.run(40.0)
    return history, simulation


def test_clients_use_everything_and_write_down_what_they_were_told():
    history, simulation = played(is_stale=False)
    operations = history.operations
    assert len(operations) > 300
    assert {it.op for it in operations} == {"get", "put", "cas"}
    assert {it.outcome for it in operations} == {Outcome.OK, Outcome.UNKNOWN}
    assert {it.output for it in operations if it.op == "cas" and it.outcome is Outcome.OK} == {True, False}
    assert check(operations).linearizable
    clients = [process.program for name, process in simulation.processes.items() if name != "s"]
    assert sum(it.answered_count for it in clients) == sum(it.outcome is Outcome.OK for it in operations)
    assert max(it.invoke_ns for it in operations) < 1031e9


def test_a_server_that_reads_an_old_copy_is_found_out():
    verdict = check(played(is_stale=True)[0].operations)
    assert verdict.linearizable is False
    assert 0 < len(verdict.window) < 20


def test_what_was_always_refused_has_failed():
    simulation = Simulation(1)
    history = History(simulation.world)

    class Refusing(Server):
        def on_message(self, sender, message):
            self.process.send(sender, Reply(message.serial, True))

    simulation.add("s", functools.partial(Refusing, False))
    settings = KvClientSettings(servers=["s"], ends_at_s=5.0)
    simulation.add("c", functools.partial(KvClient, settings, history, 0))
    simulation.run(10.0)
    assert {it.outcome for it in history.operations} == {Outcome.FAIL}

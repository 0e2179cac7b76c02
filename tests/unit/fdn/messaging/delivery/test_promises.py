"""Each delivery class on a network that loses, delays, duplicates and reorders a tenth, and cuts: 100 seeds each.

Simulated: the pure cores, in virtual time. Each promise has a control, the same run without what keeps the promise,
which must break it: or the run could not see that it is broken.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fdn.messaging.delivery.frames import MessageId, Tag
from fdn.messaging.delivery.sender import Message, Sender, Transmission
from tests.unit.fdn.messaging.delivery.simulation import TRANSIT_S_MAX, Network, Party

SEEDS = range(100)
MESSAGES = 40
BUSY_S = 4.0  # for so long something is published, and connections are cut
QUIET_S = 120.0  # in which all must come right


def spread(network: Network, count: int, act: Callable[[int], None]) -> None:
    """Do it so often, at times of chance, in order."""
    for number, at in enumerate(sorted(network.rng.uniform(0, BUSY_S) for _ in range(count))):
        network.at(at, lambda number=number: act(number))  # type: ignore[misc]


def finish(network: Network) -> None:
    network.cut_by_chance(BUSY_S)
    network.run(QUIET_S)


def broken(run: Callable[[int], bool]) -> int:
    """In how many seeds the promise was broken."""
    return sum(not run(seed) for seed in SEEDS)


def at_least_once(seed: int, **knobs: Any) -> bool:
    network = Network(seed)
    publisher = Party(network, "p", **knobs)
    receivers = [Party(network, name, **knobs) for name in ("a", "b", "c")]
    messages: list[Message] = []
    spread(network, MESSAGES, lambda n: messages.append(publisher.publish("s", n, ["a", "b", "c"])))
    finish(network)
    whole = all({payload for _, payload in each.handled} == set(range(MESSAGES)) for each in receivers)
    return whole and publisher.sender.unacked == 0 and all(message.open == 0 for message in messages)


def test_at_least_once():
    assert broken(at_least_once) == 0


def test_at_least_once_is_not_kept_without_retransmission():
    assert broken(lambda seed: at_least_once(seed, retransmits=False)) > 90


def group(seed: int, **knobs: Any) -> bool:
    """One of three members is killed in the middle: what it had not acknowledged goes to the others."""
    network = Network(seed)
    publisher = Party(network, "p", **knobs)
    members = [Party(network, name, **knobs) for name in ("a", "b", "c")]
    publisher.members = ["a", "b", "c"]
    spread(network, MESSAGES, lambda n: void(publisher.publish("s", n, group="g")))

    def kill() -> None:
        publisher.members = ["b", "c"]
        members[0].kill()

    dies_at = network.rng.uniform(1, BUSY_S)
    network.at(dies_at - 0.5, lambda: network.cut("p", "a"))  # it is cut off before
    network.at(dies_at, kill)
    finish(network)
    taken: list[tuple[float, Any, int]] = []
    for member in members:
        payloads = [payload for _, payload in member.handled]
        taken += zip(member.handled_at, payloads, member.attempts, strict=True)
    handled: set[Any] = set()
    for _, payload, attempt in sorted(taken):
        if payload in handled and not attempt:
            return False  # whoever gets it a second time is told
        handled.add(payload)
    return handled == set(range(MESSAGES)) and publisher.sender.unacked == 0


def test_a_group_takes_over_what_a_dead_member_had_not_acknowledged():
    assert broken(group) == 0


def test_a_group_loses_messages_when_nobody_takes_over():
    assert broken(lambda seed: group(seed, reroutes=False)) > 50


def effectively_once(seed: int, **knobs: Any) -> bool:
    """A client publishes through one node, and again through another, since it does not know what became of it."""
    network = Network(seed)
    nodes = [Party(network, name, **knobs) for name in ("n1", "n2")]
    receivers = [Party(network, name, **knobs) for name in ("a", "b")]

    def publish(number: int) -> None:
        for node in nodes:
            node.publish("s", number, ["a", "b"], identity=MessageId("client", number + 1))

    spread(network, MESSAGES, publish)
    finish(network)
    return all(sorted(payload for _, payload in each.handled) == list(range(MESSAGES)) for each in receivers)


def test_effectively_once():
    assert broken(effectively_once) == 0


def test_effectively_once_is_not_kept_without_its_memory():
    assert broken(lambda seed: effectively_once(seed, remembers=False)) == len(SEEDS)


def ordered_by_key(seed: int) -> bool:
    """Plain subscribers, and a group of which one member is killed."""
    network = Network(seed)
    publisher = Party(network, "p")
    plain, *members = [Party(network, name) for name in ("a", "b", "c")]
    publisher.members = ["b", "c"]
    keys = ["x", "y", "z"]

    def publish(number: int) -> None:
        publisher.publish("s", number, ["a"], group="g", key=keys[number % 3])

    spread(network, MESSAGES, publish)

    def kill() -> None:
        publisher.members = ["c"]
        members[0].kill()

    network.at(network.rng.uniform(0, BUSY_S), kill)
    finish(network)
    order: list[tuple[float, Any]] = []
    for member in members:
        order += zip(member.handled_at, (payload for _, payload in member.handled), strict=True)
    first_taken = list(dict.fromkeys(number for _, number in sorted(order, key=lambda each: each[0])))
    whole = {payload for _, payload in plain.handled} == set(first_taken) == set(range(MESSAGES))
    return whole and in_order([payload for _, payload in plain.handled]) and in_order(first_taken)


def in_order(numbers: list[int]) -> bool:
    return all(
        earlier < later
        for remainder in range(3)
        for earlier, later in itertools.pairwise(number for number in numbers if number % 3 == remainder)
    )


def test_ordered_by_key():
    assert broken(ordered_by_key) == 0


def test_there_is_no_order_without_it(monkeypatch: pytest.MonkeyPatch):
    take = Sender.take

    def blind(self: Sender, way: tuple[str, str], now: float) -> Transmission | None:
        taken = take(self, way, now)
        return taken and Transmission(taken.consignment, Tag(taken.tag.stream, taken.tag.floor, 0))

    monkeypatch.setattr(Sender, "take", blind)
    assert broken(ordered_by_key) > 90


def causal(seed: int, label: str = "cart") -> bool:
    """Who hears of a message answers; nobody is handed an answer before what it answers."""
    network = Network(seed)
    parties = [Party(network, name) for name in ("a", "b", "c", "d")]
    names = [party.name for party in parties]
    past: dict[str, set[str]] = {}  # of each message, all that come before
    known: dict[str, set[str]] = {name: set() for name in names}

    def say(party: Party, what: str) -> None:
        past[what] = set(known[party.name])
        known[party.name].add(what)
        party.publish("s", what, [name for name in names if name != party.name], label=label)

    def hear(party: Party, what: str) -> None:
        known[party.name] |= {what, *past[what]}
        if what.count("/") < 3 and network.rng.random() < 0.4:
            say(party, f"{what}/{party.name}")

    def begin(party: Party, number: int) -> None:
        say(party, f"{party.name}{number}")

    for party in parties:
        party.on_handled = lambda _, what, party=party: hear(party, what)  # type: ignore[misc]
    spread(network, 10, lambda n: begin(network.rng.choice(parties), n))
    finish(network)
    for party in parties:
        meant = [what for what in past if author(what) != party.name]
        heard = [what for _, what in party.handled]
        if sorted(heard) != sorted(meant) or party.receiver.stats().overdue:
            return False
        for place, what in enumerate(heard):
            if past[what] & set(heard[place:]):
                return False
    return True


def author(what: str) -> str:
    return what.rpartition("/")[2][0]


def test_causal():
    assert broken(causal) == 0


def test_there_is_no_causal_order_without_its_clocks():
    assert broken(lambda seed: causal(seed, label="")) > 80


def deadline(seed: int, *, drops: bool = True) -> bool:
    """What cannot be accepted before its deadline is dropped, and the sender knows of it. Time on the wire does not
    count: nobody's clock is compared with another's.
    """
    network = Network(seed)
    publisher, receiver = Party(network, "p"), Party(network, "a")
    due: dict[int, float] = {}
    messages: list[Message] = []

    def publish(number: int) -> None:
        due[number] = network.now + 0.3
        messages.append(publisher.publish("s", number, ["a"], deadline_at=due[number] if drops else 0.0))

    spread(network, MESSAGES, publish)
    network.at(1.0, lambda: network.cut("p", "a"))
    network.at(3.0, lambda: network.heal("p", "a"))
    network.run(QUIET_S)
    in_time = all(
        at < due[number] + TRANSIT_S_MAX for at, (_, number) in zip(receiver.handled_at, receiver.handled, strict=True)
    )
    lost = MESSAGES - len(receiver.handled)
    stats = publisher.sender.stats()
    # One whose acknowledgement was lost is counted, too: its sender cannot know.
    return in_time and publisher.sender.unacked == 0 and lost <= stats.expired == len(publisher.gave_up)


def test_deadline():
    assert broken(deadline) == 0


def test_what_has_no_deadline_comes_late():
    assert broken(lambda seed: deadline(seed, drops=False)) > 90


def void(message: Message) -> None:
    """For a callback whose result nobody wants."""

"""Everything at once, from a seed: the driver checks the properties of figure 3.2 after every input."""

import dataclasses
import random

import pytest

from consensus.identity import NodeId
from consensus.raft import ConnectionLost, RaftSettings, Role, Tick
from tests.unit.consensus.raft.driver import Cluster

SEEDS = range(40)
STEPS = 1500
SETTINGS = RaftSettings(
    append_bytes_max=200,
    inflight_messages_max=4,
    uncommitted_bytes_max=2000,
    apply_bytes_max=300,
    snapshot_after_entries=25,
    trailing_entries=5,
    snapshot_chunk_bytes=64,
)
# With leases the clocks drift, too, as far apart as the bound allows.
LEASES = dataclasses.replace(SETTINGS, lease_s=0.2, clock_drift_max=0.1)
DRIFTS = (0.955, 1.0, 1.045)
WEIGHTS = {
    "deliver": 60,
    "sync": 22,
    "time": 14,
    "propose": 12,
    "serve": 6,
    "read": 4,
    "drop": 2,
    "double": 2,
    "restart": 2,
    "heal": 1.5,
    "cut": 0.6,
    "isolate": 0.5,
    "lost": 0.6,
    "crash": 0.5,
    "change": 0.5,
    "transfer": 0.4,
}


class Storm:
    """Random faults, proposals, reads and changes of members."""

    def __init__(self, seed: int, settings: RaftSettings) -> None:
        self.chance = random.Random(seed)
        self.cluster = Cluster(("a", "b", "c", "d", "e")[: self.chance.choice((3, 5))], seed, settings)
        for name in ("f", "g"):
            self.cluster.add(name)
        if settings.lease_s:
            for place, node in enumerate(self.cluster.nodes.values()):
                node.drift = DRIFTS[(seed + place) % len(DRIFTS)]
                node.start()

    @property
    def up(self) -> list[NodeId]:
        return [name for name, node in self.cluster.nodes.items() if node.is_up]

    def step(self) -> None:
        cluster, chance = self.cluster, self.chance
        kind = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        name = chance.choice(self.up)
        pending = cluster.nodes[name].disk.pending
        match kind:
            case "deliver" if cluster.letters:
                for _ in range(chance.randint(1, 6)):
                    if cluster.letters:  # mostly in order, sometimes any
                        place = chance.randrange(len(cluster.letters)) if chance.random() < 0.3 else 0
                        cluster.deliver(cluster.letters[place])
            case "drop" if cluster.letters:
                cluster.letters.pop(chance.randrange(len(cluster.letters)))
            case "double" if cluster.letters:
                cluster.letters.append(chance.choice(cluster.letters))
            case "time":
                self.pass_time(chance.expovariate(60))
            case "sync" if pending:
                cluster.sync(name, chance.randint(1, len(pending)))
            case "propose":
                cluster.propose(cluster.leader() or name, bytes([chance.randrange(256)]) * 8, chance.randint(1, 4))
            case "read":
                # Also at those who lead no more and may not know.
                leaders = [it for it in self.up if cluster.nodes[it].role is Role.LEADER]
                cluster.read(chance.choice([*leaders, name]), chance.random() < 0.7)
            case "crash":
                self.crash(name)
            case "restart":
                self.restart()
            case "cut":
                cluster.cut.add((name, chance.choice(list(cluster.nodes))))
            case "isolate":
                # The leader, which leads on for a while; most of the others notice and elect another meanwhile.
                alone = cluster.leader() or name
                cluster.isolate(alone)
                for other in self.up:
                    if other != alone and chance.random() < 0.8:
                        cluster.give(other, ConnectionLost(alone))
            case "heal":
                cluster.heal()
            case "serve":
                cluster.serve(name)
            case "lost":
                cluster.give(name, ConnectionLost(chance.choice(list(cluster.nodes))))
            case "change" if cluster.leader():
                voters = chance.sample(list(cluster.nodes), chance.choice((3, 5)))
                learners = [it for it in cluster.nodes if it not in voters and chance.random() < 0.3]
                cluster.change(cluster.leader() or name, voters, learners)
            case "transfer" if cluster.leader():
                cluster.transfer(cluster.leader() or name, chance.choice((None, *cluster.nodes)))
            case _:
                pass

    def pass_time(self, seconds: float) -> None:
        self.cluster.now += seconds
        for name in self.up:
            node = self.cluster.nodes[name]
            deadline = node.raft.next_deadline()
            if deadline is not None and deadline <= node.now and self.chance.random() < 0.9:
                self.cluster.give(name, Tick())

    def crash(self, name: NodeId) -> None:
        # Any voter may crash, and any number of them: nothing acknowledged may be lost, only time.
        node = self.cluster.nodes[name]
        if len(self.up) > 1:
            self.cluster.crash(name, self.chance.randint(0, len(node.disk.pending)))

    def restart(self) -> None:
        down = [name for name in self.cluster.nodes if name not in self.up]
        if down:
            self.cluster.restart(self.chance.choice(down))

    def calm(self) -> None:
        """Faults stop: within seconds there is one leader, one configuration and one log, and it serves."""
        cluster = self.cluster
        cluster.heal()
        for name, node in cluster.nodes.items():
            if not node.is_up:
                cluster.restart(name)
        cluster.settle()
        cluster.elapse(5.0)
        leader = cluster.leader()
        assert leader is not None, "nobody leads"
        status = cluster[leader].status()
        assert not status.configuration.is_joint
        write, read = cluster.propose(leader), cluster.read(leader)
        cluster.settle()
        cluster.elapse(0.5)
        assert write in cluster.acknowledged
        assert cluster.answer(read).outcome.value == "done"
        status = cluster[leader].status()
        for name in status.configuration.members:
            other = cluster[name].status()
            assert other.leader == leader
            assert other.applied_index == status.applied_index
            assert cluster.nodes[name].machine.values == cluster.nodes[leader].machine.values
        kept = {index for index, _ in cluster.nodes[leader].machine.values}
        assert set(cluster.acknowledged.values()) <= kept, "an acknowledged write is lost"


@pytest.mark.parametrize("seed", SEEDS)
def test_storm(seed: int):
    storm = Storm(seed, LEASES if seed % 2 else SETTINGS)
    for _ in range(STEPS):
        storm.step()
    storm.calm()

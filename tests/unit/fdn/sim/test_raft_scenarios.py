"""What the simulator proves of Raft, and that it would notice: each planted bug is found within a few seeds."""

import pytest

from consensus.identity import Term
from consensus.raft import Persist, Persisted
from consensus.raft.log import Log
from fdn.sim import raft_scenarios
from fdn.sim.kv import KvStore, Reply
from fdn.sim.raft_member import RaftMember
from fdn.sim.report import run, run_seeds

SCENARIOS = {scenario.name: scenario for scenario in raft_scenarios.SCENARIOS}


@pytest.mark.parametrize("name", SCENARIOS)
def test_holds_over_seeds(name):
    for done in run_seeds(SCENARIOS[name], range(2)):
        assert done.figures["ok"] > 1000
        assert done.figures["faults"] > 5


def test_five_members():
    run_seeds(SCENARIOS["raft"], [1], nodes=5)


def answers_before_the_disk(monkeypatch):
    """The driver says that a write is done when it has only begun."""
    carry_out = RaftMember._carry_out

    def wrong(self, effect):
        carry_out(self, effect)
        if isinstance(effect, Persist):
            self._feed(Persisted(effect.token))

    monkeypatch.setattr(RaftMember, "_carry_out", wrong)


def reads_without_asking(monkeypatch):
    """A get is answered from the store of whoever is asked."""
    on_request = RaftMember._on_request

    def wrong(self, client, request):
        if request.op == "get" and self.raft is not None:
            self._process.send(client, Reply(request.serial, False, self.store.get(request.key)))
        else:
            on_request(self, client, request)

    monkeypatch.setattr(RaftMember, "_on_request", wrong)


def forgets_votes(monkeypatch):
    """Term and vote are not on the disk."""
    take = RaftMember._take
    monkeypatch.setattr(RaftMember, "_take", lambda self, term, voted_for, entries: take(self, Term(0), None, entries))


def carries_out_twice(monkeypatch):
    """The store does not remember what it has done for whom."""
    apply = KvStore.apply

    def wrong(self, data):
        self._last.clear()
        return apply(self, data)

    monkeypatch.setattr(KvStore, "apply", wrong)


def any_log_may_lead(monkeypatch):
    """Votes do not look at the candidate's log."""
    monkeypatch.setattr(Log, "is_up_to_date", lambda self, last_index, last_term: True)


def trusts_the_kernel(monkeypatch):
    """What is read at the start is not written anew: what comes behind a torn record is never read again."""
    rewrite = RaftMember._rewrite

    def wrong(self, done):
        if self.raft is None and self._process.life > 1:
            self._process.persist([], done)
        else:
            rewrite(self, done)

    monkeypatch.setattr(RaftMember, "_rewrite", wrong)


# A planted bug, and the seed from which it is looked for: the rare one takes some, and each seed half a second.
PLANTS = {
    answers_before_the_disk: 8,
    reads_without_asking: 0,
    forgets_votes: 0,
    carries_out_twice: 0,
    any_log_may_lead: 0,
    trusts_the_kernel: 0,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_bug_is_found(plant, monkeypatch):
    plant(monkeypatch)
    scenario, first = SCENARIOS["raft-elections"], PLANTS[plant]
    assert any(run(scenario, seed, shrink_runs_max=0).failure for seed in range(first, first + 12))

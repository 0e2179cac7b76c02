"""Plumtree as its paper measured it (SRDS 2007, section 4), on virtual time, over HyParView with the paper's settings.

One broadcast in each cycle. Measured are RMR (payload messages for each receiver, minus one: 3 for a flood with fan-out
4, 0 for a tree), the last delivery hop, and all messages of a broadcast by kind; for one sender and for many, without
and with the optimisation of section 3.8, and with trees of single roots, which the paper does not have. Announcements
go out at once, as there. Then, nodes are killed in every cycle.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fdn.sim.broadcast_network import BroadcastNetwork
from fdn.sim.hyparview_study import grow
from fdn.sim.study import Study, StudyRequest
from topologies.hyparview import HyParViewSettings
from topologies.identity import NodeId
from topologies.plumtree import PlumtreeSettings

__all__ = ("PLUMTREE",)

_NEVER: Final = 1_000_000
_CONTROL: Final = ("IHave", "Graft", "Prune")
_KILLED_A_CYCLE: Final = 0.005  # of all nodes: 50 of the paper's 10,000
_PAPER: Final[Mapping[str, Any]] = {
    "source": "Leitao, Pereira, Rodrigues: Epidemic Broadcast Trees, SRDS 2007, table 1 and section 4; PeerSim, cycle "
    "model, 10,000 nodes, cycle 100",
    "flood": {"rmr": 3.0, "payload": 39_984, "control": 0},
    "plain": {"rmr": 0.0, "one_control": 29_987, "many_control": 29_990},
    "optimised": {"rmr": 0.0, "one_control": 29_989, "many_control": 38_976, "many_total_over_flood": 0.225},
    "churn": {"reliability": 1.0, "rmr": "just above 0"},
}
_KINDS: Final[Mapping[str, PlumtreeSettings]] = {
    "plain": PlumtreeSettings(ihave_interval_s=0.0, own_tree_after=_NEVER, shared_threshold=_NEVER),
    "optimised": PlumtreeSettings(ihave_interval_s=0.0, own_tree_after=_NEVER, shared_threshold=3),
    "own_trees": PlumtreeSettings(ihave_interval_s=0.0, own_tree_after=0),
}
_MANY_THRESHOLD: Final = 7  # the paper's for many senders; 3 for one
_SENDERS: Final = 32  # of the many; as many as there are trees of single roots


def _measure(request: StudyRequest) -> Mapping[str, Any]:
    begun = time.process_time()
    request.progress("growing")
    network = grow(request.nodes, request.seed, request.cycles)
    results: dict[str, Any] = {}
    senders = network.world.rng("senders").sample(sorted(network.hosts), min(_SENDERS, request.nodes))
    for name, settings in _KINDS.items():
        results[name] = {}
        for who, some in (("one", senders[:1]), ("many", senders)):
            request.progress(f"{name}, {who}")
            chosen = settings
            if name == "optimised" and who == "many":
                chosen = PlumtreeSettings(ihave_interval_s=0.0, own_tree_after=_NEVER, shared_threshold=_MANY_THRESHOLD)
            results[name][who] = _steady(BroadcastNetwork(network.copy(), chosen), some, request.messages)
    request.progress("churn")
    results["churn"] = _churn(BroadcastNetwork(network.copy(), _KINDS["plain"]), senders[0], request.messages)
    flood_total = results["plain"]["one"]["flood_payload"]
    for name in _KINDS:
        for figures in results[name].values():
            figures["total_over_flood"] = figures["total"] / flood_total - 1.0
    return {**results, "paper": _PAPER, "cpu_s": time.process_time() - begun}


def _steady(broadcasts: BroadcastNetwork, senders: Sequence[NodeId], messages: int) -> dict[str, Any]:
    """Figures of the second half of the broadcasts; the tree is built by the first."""
    network = broadcasts.network
    nodes = len(network.living())
    first_payload = 0
    rmr, last_hops, control, payload, reliability = [], [], [], [], []
    for index in range(messages):
        network.run(HyParViewSettings().shuffle_interval_s)
        broadcasts.sent.clear()
        id = broadcasts.broadcast(senders[index % len(senders)])
        network.settle()
        reliability.append(broadcasts.reliability(id))
        if index == 0:
            first_payload = broadcasts.sent["Gossip"]
        if index >= messages // 2:
            rmr.append(broadcasts.sent["Gossip"] / (nodes - 1) - 1.0)
            last_hops.append(max(broadcasts.hops[id].values()))
            payload.append(broadcasts.sent["Gossip"])
            control.append(sum(broadcasts.sent[kind] for kind in _CONTROL))
    return {
        "rmr": statistics.mean(rmr),
        "last_delivery_hop": statistics.mean(last_hops),
        "payload": statistics.mean(payload),
        "control": statistics.mean(control),
        "total": statistics.mean(map(sum, zip(payload, control, strict=True))),
        "reliability_min": min(reliability),
        "flood_payload": first_payload,  # the first message finds no tree
        "delivered_twice": broadcasts.twice,
    }


def _churn(broadcasts: BroadcastNetwork, sender: NodeId, messages: int) -> dict[str, Any]:
    """Some are killed just before each broadcast."""
    network = broadcasts.network
    rng = network.world.rng("churn")
    count = max(1, round(_KILLED_A_CYCLE * len(network.hosts)))
    reliability, rmr = [], []
    for _ in range(min(messages, len(network.hosts) // (2 * count))):
        others = [host.id for host in network.living() if host.id != sender]
        network.kill(rng.sample(others, count), notice=True)
        broadcasts.sent.clear()
        id = broadcasts.broadcast(sender)
        network.run(HyParViewSettings().shuffle_interval_s)
        reliability.append(broadcasts.reliability(id))
        rmr.append(broadcasts.sent["Gossip"] / (len(network.living()) - 1) - 1.0)
    return {
        "killed_a_cycle": count,
        "cycles": len(rmr),
        "reliability_min": min(reliability),
        "rmr": statistics.mean(rmr[1:] or rmr),
        "missed": len(broadcasts.missed),
        "delivered_twice": broadcasts.twice,
    }


def _table(result: Mapping[str, Any]) -> list[str]:
    lines = [f"  {'':<20}{'RMR':>9}{'last hop':>10}{'payload':>10}{'control':>10}{'over flood':>12}{'reliability':>13}"]
    for name in _KINDS:
        for who, it in result[name].items():
            lines.append(
                f"  {name + ', ' + who:<20}{it['rmr']:>9.4f}{it['last_delivery_hop']:>10.2f}{it['payload']:>10,.0f}"
                f"{it['control']:>10,.0f}{it['total_over_flood']:>11.1%} {it['reliability_min']:>13.4f}"
            )
    churn = result["churn"]
    lines.append(
        f"  {churn['killed_a_cycle']} killed in each of {churn['cycles']} cycles: reliability at least "
        f"{churn['reliability_min']:.4f}, RMR {churn['rmr']:.4f}"
    )
    paper = result["paper"]
    plain, optimised = paper["plain"], paper["optimised"]
    lines.append(
        f"  paper, 10,000 nodes: control {plain['one_control']:,} (plain, one), {optimised['many_control']:,} "
        f"(optimised, many: {optimised['many_total_over_flood']:+.1%} over flood)"
    )
    return [*lines, f"  {paper['source']}"]


PLUMTREE: Final = Study(
    name="plumtree",
    summary="redundancy, last hop and overhead of broadcast trees, steady and while nodes are killed",
    nodes=1000,
    messages=64,
    cycles=50,
    measure=_measure,
    table=_table,
)

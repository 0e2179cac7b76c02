"""HyParView as its paper measured it (DSN 2007, section 5), on virtual time.

Nodes join one by one through the first, with no cycle in between; then come cycles, in each of which every node starts
one shuffle. The graph of active views is measured, and how much of the survivors broadcasts reach when a share of all
nodes has died at one instant, in three ways:

- `reactive`: connections tell of their end, as those of a process that died do, and views are repaired from that.
- `on_use`: nothing tells; a link fails when a broadcast uses it, as in the paper, and is repaired then.
- `off`: nothing is repaired. This is what the graph itself carries, to be laid beside the random graph (`control`).

No time passes between the broadcasts that would let a shuffle begin.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, Final

from fdn.sim.graphs import Graph, clustering, components, distances, path_length, random_regular
from fdn.sim.overlay_network import OverlayNetwork
from fdn.sim.study import Study, StudyRequest
from topologies.hyparview import HyParViewSettings
from topologies.identity import NodeId

__all__ = ("HYPARVIEW", "grow", "paper_settings")

_SHARES: Final = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # per cent of the nodes
_SOURCES_MAX: Final = 200  # for the mean path; all of them up to a thousand nodes
_EXACT_TO: Final = 1000
_HEALING_CYCLES_MAX: Final = 20
_HEALING_BROADCASTS: Final = 10
_PAPER: Final[Mapping[str, Any]] = {
    "source": "Leitao, Pereira, Rodrigues: HyParView, DSN 2007, table 1 and figures 2 to 4; PeerSim, cycle model",
    "nodes": 10_000,
    "clustering": 0.00092,
    "path_length": 6.38542,
    "max_hops": 9.0,
    "reliability_on_use": {"10-80": "no visible loss", "90": "almost all", "95": "about 0.9"},
    "healing_cycles": "1 to 2 below 80 % dead",
}


def paper_settings() -> HyParViewSettings:
    """Those of section 5.1; trading neighbours for the sake of mixing is ours, and is off here."""
    return HyParViewSettings(mix_interval_s=float("inf"))


def grow(nodes: int, seed: int, cycles: int) -> OverlayNetwork:
    """An overlay of so many that joined one by one, after so many cycles."""
    settings = paper_settings()
    network = OverlayNetwork(seed, settings=settings)
    network.start("n0")
    for index in range(1, nodes):
        network.start(f"n{index}", ["n0"])
        network.settle()
    network.run(settings.shuffle_interval_s * cycles)
    network.settle()
    return network


def _measure(request: StudyRequest) -> Mapping[str, Any]:
    begun = time.process_time()
    request.progress("growing")
    network = grow(request.nodes, request.seed, request.cycles)
    graph = network.graph()
    request.progress("the graph")
    shape = _shape(network, graph, request)
    reliability: dict[str, dict[str, float]] = {"reactive": {}, "on_use": {}, "off": {}}
    first: dict[str, float] = {}
    healing: dict[str, int | None] = {}
    for share in _SHARES:
        for mode, reached in reliability.items():
            request.progress(f"{share} % dead, {mode}")
            curve = _after_failures(network, share, mode, request.messages)
            reached[str(share)] = statistics.mean(curve)
            if mode == "on_use":
                first[str(share)] = curve[0]
        request.progress(f"{share} % dead, healing")
        healing[str(share)] = _healing_cycles(network, share)
    return {
        **shape,
        "reliability": reliability,
        "reliability_of_the_first_message_on_use": first,
        "healing_cycles": healing,
        "control": _control(request),
        "paper": _PAPER,
        "cpu_s": time.process_time() - begun,
    }


def _shape(network: OverlayNetwork, graph: Graph, request: StudyRequest) -> dict[str, Any]:
    rng = network.world.rng("study")
    living = list(graph)
    sources = living if len(living) <= _EXACT_TO else rng.sample(living, _SOURCES_MAX)
    trial = network.copy()
    highest = []
    out: IO[str] | None = None
    if request.edges is not None:
        out = request.edges.open("w", encoding="utf-8")
        for node, peers in graph.items():
            print(json.dumps({"node": node, "active": list(peers)}), file=out)
    try:
        for _ in range(request.messages):
            origin = rng.choice(living)
            flood = trial.flood(origin)
            trial.settle()
            highest.append(max(flood.hops.values()))
            if out is not None:
                print(json.dumps({"broadcast": origin, "hops": flood.hops}), file=out)
    finally:
        if out is not None:
            out.close()
    degrees = Counter(map(len, graph.values()))
    return {
        "clustering": clustering(graph),
        "path_length": path_length(graph, sources),
        "path_sources": len(sources),
        "max_hops": statistics.mean(highest),
        "symmetric": not network.asymmetric(),
        "components": components(graph),
        "degrees": {str(degree): degrees[degree] for degree in sorted(degrees)},
        "messages_a_node": network.messages / len(living),
    }


def _dead(network: OverlayNetwork, share: int) -> list[NodeId]:
    nodes = sorted(network.hosts)
    return network.world.rng(f"dead {share}").sample(nodes, len(nodes) * share // 100)


def _after_failures(network: OverlayNetwork, share: int, mode: str, messages: int) -> list[float]:
    """Which share of the survivors each of the broadcasts reaches."""
    trial = network.copy()
    trial.is_frozen = mode == "off"
    trial.kill(_dead(trial, share), notice=mode == "reactive")
    trial.settle()
    return _reached(trial, messages)


def _reached(network: OverlayNetwork, messages: int) -> list[float]:
    rng = network.world.rng("origins")
    living = [host.id for host in network.living()]
    curve = []
    for _ in range(messages):
        flood = network.flood(rng.choice(living))
        network.settle()
        curve.append(len(flood.hops) / len(living))
    return curve


def _healing_cycles(network: OverlayNetwork, share: int) -> int | None:
    """How many cycles of ten broadcasts it takes until all of them reach everybody again; None: more than were run."""
    trial = network.copy()
    trial.kill(_dead(trial, share))
    for cycle in range(1, _HEALING_CYCLES_MAX + 1):
        trial.run(paper_settings().shuffle_interval_s)
        if statistics.mean(_reached(trial, _HEALING_BROADCASTS)) >= 1.0:
            return cycle
    return None


def _control(request: StudyRequest) -> dict[str, Any]:
    """The same of a random graph of that degree, which no protocol made and none repairs."""
    network = OverlayNetwork(request.seed)
    rng = network.world.rng("control")
    degree = paper_settings().active_max
    graph = random_regular(request.nodes, degree, rng)
    nodes = list(graph)
    sources = nodes if len(nodes) <= _EXACT_TO else rng.sample(nodes, _SOURCES_MAX)
    carried = {}
    for share in _SHARES:
        dead = set(rng.sample(nodes, len(nodes) * share // 100))
        left = {node: [peer for peer in peers if peer not in dead] for node, peers in graph.items() if node not in dead}
        # A broadcast from anybody reaches its component: the mean is that of the squares.
        carried[str(share)] = sum(size**2 for size in components(left)) / len(left) ** 2
    return {
        "what": f"a random {degree}-regular graph, computed",
        "clustering": clustering(graph),
        "path_length": path_length(graph, sources),
        "max_hops": statistics.mean(max(distances(graph, source).values()) for source in sources),
        "reliability_off": carried,
    }


def _table(result: Mapping[str, Any]) -> list[str]:
    paper, control = result["paper"], result["control"]
    lines = [f"  {'':<22}{'fdn':>12}{'random graph':>14}{'paper, 10,000':>15}"]
    lines += [
        f"  {name:<22}{result[name]:>12.5f}{control[name]:>14.5f}{paper[name]:>15}"
        for name in ("clustering", "path_length", "max_hops")
    ]
    lines.append(f"  symmetric: {result['symmetric']}; components: {result['components']}")
    lines.append(f"  nodes by degree: {result['degrees']}")
    lines.append(f"  {'dead, %':>9}{'reactive':>12}{'on use':>12}{'off':>12}{'random graph':>14}{'healing cycles':>16}")
    for share in result["healing_cycles"]:
        modes = "".join(f"{result['reliability'][mode][share]:>12.4f}" for mode in ("reactive", "on_use", "off"))
        healing = result["healing_cycles"][share]
        lines.append(
            f"  {share:>9}{modes}{control['reliability_off'][share]:>14.4f}{'none' if healing is None else healing:>16}"
        )
    return [*lines, f"  paper: {paper['source']}"]


HYPARVIEW: Final = Study(
    name="hyparview",
    summary="clustering, paths, hops, reliability and healing after failures, as the paper measured them",
    nodes=1000,
    messages=100,
    cycles=50,
    measure=_measure,
    table=_table,
)

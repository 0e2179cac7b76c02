"""The demonstration: three nodes index a library, one of them is killed at the work, and nothing is lost.

1. Facts of the cluster: members, channels, who answers.
2. Every file goes as a call to an `index` service that all nodes offer. Half way a node is killed with SIGKILL. Calls
   that were on their way to it are made again elsewhere (`Retry`: indexing a file twice does no harm), and the rest is
   dealt to those that are left.
3. The node is started again with its data directory, and is the same member in its next life. What it held in memory
   died with it: those files are dealt again, to all nodes, itself included.
4. The index is queried on all nodes, and compared with one made by a single process.

The driver is a member of the cluster that serves nothing.
"""

import asyncio
import collections
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from fdn.demo.indexer import FileSource, Indexed, Sum
from fdn.demo.ledger import Ledger
from fdn.demo.progress import Progress
from fdn.demo.reference import Reference
from fdn.demo.report import DETECT_MS_MAX, Report
from fdn.demo.source import choose_files, library_root
from fdn.errors import DeadlineExceeded, Error, NotFound
from fdn.local import leash
from fdn.local.cluster import LocalCluster, LocalNode
from fdn.local.views import Rows, until_seen
from fdn.messaging.retry import Retry
from fdn.node import Node
from fdn.runtime.facts import Fact, MemberDead, MemberSuspect
from transports.channel import Channel

__all__ = ("APP", "QUERIES", "Demonstration")

APP: Final = "fdn.demo.indexer:app"
QUERIES: Final = ("OrderedDict", "TestCase", "main")
_IN_FLIGHT_PER_NODE: Final = 3
_CALL_S: Final = 30.0
_RETRY: Final = Retry(8)
_SEEN_S: Final = 10.0
_PINGS: Final = 5


@dataclasses.dataclass(slots=True)
class _Killed:
    """The victim, before and after."""

    node: LocalNode
    pid: int
    generation: int
    at: float


class Demonstration:
    """One run. It belongs to the loop of the driver.

    Args:
        cluster: Formed; each node serves `APP`.
        driver: A running member.
        say: Takes each fact as a line.
        stream: Where progress goes.
    """

    def __init__(self, cluster: LocalCluster, driver: Node, say: Callable[[str], None], stream: TextIO) -> None:
        self._cluster = cluster
        self._driver = driver
        self._say = say
        self._stream = stream
        self._root: Path = library_root()
        self._files: tuple[str, ...] = ()
        self._queue: collections.deque[str] = collections.deque()
        self._victim: LocalNode = cluster.nodes[1]
        self._killed: _Killed | None = None
        self._done_at: list[float] = []
        self._falsely_dead: set[str] = set()
        self.ledger = Ledger()
        self.report = Report()

    async def run(self) -> Report:
        """Do all of it.

        Raises:
            Error: It could not be carried through; a promise that was missed is no error.
        """
        facts = asyncio.create_task(self._follow())
        try:
            # On a thread: looking through the folders takes half a second, and the driver is a node like any other.
            self._files = await asyncio.to_thread(choose_files, self._root)
            self._tell_members()
            await self._tell_channels()
            await self._take_turns()
            await self._index()
            await self._query()
            await self._compare()
        finally:
            facts.cancel()
        promises = self.report.promises
        promises["nobody_else_dead"] = not self._falsely_dead
        self.report.pids = {node.name: node.pid for node in self._cluster.nodes}
        return self.report

    def as_object(self) -> dict[str, Any]:
        """The result for another program."""
        return self.report.as_object(self.ledger, str(self._root))

    def commands(self) -> list[str]:
        """What to try next."""
        name = QUERIES[0]
        holders = [result.node for result in self.ledger.results.values() if name in result.entry.names]
        return [
            "fdn members",
            "fdn service call add '[2, 3]'",
            f"fdn service call index.find@{holders[0] if holders else 'n1'} '\"{name}\"'",
        ]

    # -- 1: the cluster

    def _tell_members(self) -> None:
        members = [member for member in self._driver.members() if member.status == "alive" and not member.me]
        self.report.promises["formed"] = {member.name for member in members} == {n.name for n in self._cluster.nodes}
        for node in self._cluster.nodes:
            life = self._generation(node)
            self._say(f"member {node.name} is alive: pid {node.pid}, {node.endpoint}, life {life}")

    async def _tell_channels(self) -> None:
        for channel in Channel:
            try:
                times = {node.name: await self._round_trip(node, channel) for node in self._cluster.nodes}
            except Error as error:
                self._say(f"channel {channel.value:<12} does not answer: {error}")
                continue
            self.report.rtt_ms[channel.value] = times
            shown = "  ".join(f"{name} {ms:.2f}" for name, ms in times.items())
            self._say(f"channel {channel.value:<12} round trip in ms: {shown}")
        self.report.promises["channels_answer"] = len(self.report.rtt_ms) == len(Channel)

    async def _round_trip(self, node: LocalNode, channel: Channel) -> float:
        deadline_at = time.monotonic() + _SEEN_S
        times: list[float] = []
        while len(times) < _PINGS:
            try:
                times.append(await self._driver.ping(node.id, channel.value))
            except NotFound:  # a gossip round trip is that of the last probe, and each member waits its turn for one
                if time.monotonic() > deadline_at:
                    raise
                await asyncio.sleep(0.02)
        return round(statistics.median(times) * 1e3, 3)

    async def _take_turns(self) -> None:
        count = 2 * len(self._cluster.nodes)
        sums = [await self._driver.call("add", {"a": 2, "b": 3}, returns=Sum) for _ in range(count)]
        names = [answer.node for answer in sums]
        wanted = {node.name for node in self._cluster.nodes}
        self.report.promises["calls_take_turns"] = set(names) == wanted and all(answer.sum == 5 for answer in sums)
        self._say(f"call add(2, 3) = {sums[0].sum}, answered by {', '.join(names)}")

    # -- 2: the work

    async def _index(self) -> None:
        size = sum((self._root / path).stat().st_size for path in self._files)
        self._say(f"work: {len(self._files)} files, {size / 1e6:.1f} MB, of {self._root}")
        started = time.monotonic()
        self._begin_work(started)
        death = asyncio.create_task(self._kill_and_restart())
        self._queue.extend(self._files)
        try:
            await self._deal()
            await death
        finally:
            death.cancel()
        assert self._killed is not None
        await self._deal_again(self._killed)
        self.report.index_s = round(time.monotonic() - started, 3)
        self._progress.clear()
        shares = ", ".join(f"{name} {count}" for name, count in sorted(self.ledger.by_node().items()))
        self._say(
            f"indexed {len(self.ledger.results)} files in {self.report.index_s:.2f} s, death and repeated work included"
            f" ({self.report.files_per_s:.0f} files/s before the kill): {shares}"
        )

    def _begin_work(self, started: float) -> None:
        """Nothing is done yet, of the files that were chosen."""
        self._progress = Progress(self._stream, len(self._files), self._stream.isatty(), started)
        self._half_way = asyncio.Event()

    async def _deal(self) -> None:
        """Deal out what is in the queue, a few files per node at a time, until each has its answer."""
        workers = [asyncio.create_task(self._work()) for _ in range(_IN_FLIGHT_PER_NODE * len(self._cluster.nodes))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        while self._queue:
            path = self._queue.popleft()
            request = FileSource(path, (self._root / path).read_bytes())
            result = await self._driver.call("index.file", request, returns=Indexed, timeout=_CALL_S, retry=_RETRY)
            self.ledger.record(result)
            now = time.monotonic()
            self._done_at.append(now)
            self._progress.update(len(self.ledger.results), self.ledger.by_node(), now)
            if 2 * len(self.ledger.results) >= len(self._files):
                self._half_way.set()

    async def _deal_again(self, killed: _Killed) -> None:
        lost = self.ledger.held_by(killed.pid)
        self.report.dealt_again = len(lost)
        self._tell(f"dealt again: {len(lost)} files, whose entries died with process {killed.pid}")
        self._queue.extend(lost)
        await self._deal()
        again = len(self.ledger.held_by(killed.node.pid))
        self.report.promises["worked_again"] = again > 0
        self._tell(f"{killed.node.name} works again: {again} files since its return")

    # -- 3: death and return

    async def _kill_and_restart(self) -> None:
        await self._half_way.wait()
        victim = self._victim
        self.report.files_per_s = round(len(self._done_at) / (self._done_at[-1] - self._progress.started), 1)
        killed = self._killed = _Killed(victim, victim.pid, self._generation(victim), time.monotonic())
        self._tell(f"{victim.name} is killed (SIGKILL, pid {victim.pid}) after {len(self._done_at)} files")
        self._cluster.kill(victim)
        await self._detect(killed)
        started = time.monotonic()
        await victim.ended()
        await self._cluster.restart(victim)
        self.report.killed = {"name": victim.name, "node": victim.id, "pid": killed.pid, "pid_after": victim.pid}
        await self._rejoin(killed, started)
        self._tell_of_the_meantime(killed.at, time.monotonic())

    async def _detect(self, killed: _Killed) -> None:
        def is_dead(rows: Rows) -> bool:
            return any(row["node"] == killed.node.id and row["status"] == "dead" for row in rows)

        try:
            seen = await self._until_seen(is_dead, f"{killed.node.name} dead in every view", but=killed.node)
        except DeadlineExceeded as error:
            self.report.promises["detected"] = False
            self._tell(str(error))
            return
        self.report.detect_ms = {name: round((at - killed.at) * 1e3, 1) for name, at in seen.items()}
        self.report.promises["detected"] = max(self.report.detect_ms.values()) < DETECT_MS_MAX
        shown = "  ".join(f"{name} {ms:.0f}" for name, ms in self.report.detect_ms.items())
        self._tell(f"{killed.node.name} is dead, seen after ms by: {shown}")

    async def _rejoin(self, killed: _Killed, started: float) -> None:
        victim, generation = killed.node, killed.generation + 1

        def is_back(rows: Rows) -> bool:
            return any(
                row["node"] == victim.id
                and row["status"] == "alive"
                and row["incarnation"][0] == generation
                and row["reachable"]
                for row in rows
            )

        try:
            seen = await self._until_seen(is_back, f"{victim.name} back in every view, in life {generation}")
            await self._until_offered(victim)
        except DeadlineExceeded as error:
            self.report.promises["rejoined"] = False
            self._tell(str(error))
            return
        self.report.promises["rejoined"] = True
        self.report.rejoin_ms = round((max(seen.values()) - started) * 1e3, 1)
        self._tell(
            f"{victim.name} is back after {self.report.rejoin_ms:.0f} ms: pid {victim.pid}, the same node {victim.id}, "
            f"life {generation}"
        )

    async def _until_seen(
        self, holds: Callable[[Rows], bool], what: str, but: LocalNode | None = None
    ) -> Mapping[str, float]:
        """When each view came to hold, the driver's own included."""
        views = {node.name: node.endpoint for node in self._cluster.nodes if node is not but}
        views["driver"] = self._driver.endpoint
        return await until_seen(views, self._cluster.plan.cluster, holds, what, _SEEN_S)

    async def _until_offered(self, node: LocalNode) -> None:
        """Return when the driver's calls may go to it: its offers come a moment after its membership."""
        deadline_at = time.monotonic() + _SEEN_S
        while not self._driver.offers().get(node.id):
            if time.monotonic() > deadline_at:
                raise DeadlineExceeded(f"{node.name} came back, and its services did not within {_SEEN_S:g} s")
            await asyncio.sleep(0.02)

    def _tell_of_the_meantime(self, killed_at: float, back_at: float) -> None:
        meanwhile = [at for at in self._done_at if killed_at < at < back_at]
        self.report.done_while_dead = len(meanwhile)
        self.report.promises["work_went_on"] = bool(meanwhile)
        is_done = len(self.ledger.results) == len(self._files)  # then silence is no gap
        times = [killed_at, *meanwhile, *([] if is_done else [back_at])]
        self.report.gap_ms = round(max((b - a for a, b in itertools.pairwise(times)), default=0.0) * 1e3, 1)
        self._tell(
            f"work went on: {len(meanwhile)} files while {self._victim.name} was gone, "
            f"at most {self.report.gap_ms:.0f} ms without a result"
        )

    async def _follow(self) -> None:
        async for fact in self._driver.facts():
            self._on_fact(fact)

    def _on_fact(self, fact: Fact) -> None:
        match fact:
            case MemberSuspect():
                self._tell(f"{fact.name} is suspected: {fact.reason}")
            case MemberDead() if fact.node != self._victim.id or self._killed is None:
                self._falsely_dead.add(fact.name)
                self._tell(f"{fact.name} is held dead: {fact.reason}")
            case _:
                pass

    # -- 4: is it right?

    async def _query(self) -> None:
        nodes = self._cluster.nodes
        shares = [
            await self._driver.call(f"index.files@{node.id}", returns=dict[str, str], timeout=_CALL_S) for node in nodes
        ]
        complete = self.ledger.agrees_with_shares(shares)
        for name in QUERIES:
            started = time.monotonic()
            found = await asyncio.gather(
                *(
                    self._driver.call(f"index.find@{node.id}", name, returns=list[str], timeout=_CALL_S)
                    for node in nodes
                )
            )
            self.report.query_ms = round((time.monotonic() - started) * 1e3, 2)
            paths = sorted({path for answer in found for path in answer})
            merged = sorted(path for path, result in self.ledger.results.items() if name in result.entry.names)
            complete &= paths == merged
            counts = " + ".join(str(len(answer)) for answer in found)
            self._say(
                f"query {name}: {counts} files from {len(nodes)} nodes in {self.report.query_ms:.1f} ms, "
                f"first {', '.join(paths[:2])}"
            )
        self.report.promises["query_complete"] = complete

    async def _compare(self) -> None:
        self._say("compared with a single process that indexes the same files:")
        reference = await _run_reference()
        self.report.reference_s = round(reference.seconds, 3)
        promises = self.report.promises
        promises["no_file_lost"] = self.ledger.is_complete(self._files) and reference.entries.keys() == set(self._files)
        promises["none_counted_twice"] = self.ledger.counts_each_once(self._files)
        promises["digests_equal"] = self.ledger.agrees_with(reference.entries)
        self._say(
            f"single process: {len(reference.entries)} files in {reference.seconds:.2f} s, "
            f"{'all' if promises['digests_equal'] else 'NOT all'} digests and counts equal"
        )

    def _generation(self, node: LocalNode) -> int:
        return next((member.incarnation[0] for member in self._driver.members() if member.node == node.id), 0)

    def _tell(self, text: str) -> None:
        """Say a fact in the middle of the work, above the bar."""
        if hasattr(self, "_progress"):
            self._progress.clear()
        self._say(text)


async def _run_reference() -> Reference:
    process = await asyncio.create_subprocess_exec(
        *leash.command("fdn.demo.reference"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        written = await process.stdout.read()
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        raise Error(f"the single process for the comparison ended with status {status}", hint="its reason is above")
    return msgspec.msgpack.decode(written, type=Reference)

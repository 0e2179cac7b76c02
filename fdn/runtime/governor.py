"""The governor: looks at every link in use, at intervals, and applies what the pure cores of `fdn.runtime.flow` decide.

It costs a message nothing: all that it knows is in counters that are kept anyway, and in the answers to its probes. A
link that carries little is left alone and has all of its credit. Probes and their answers are `CORE` envelopes to
`fdn.probe` (docs/spec/0001-wire.md, section 6.1); they overtake what waits in our queue and nothing that has left it,
so an answer tells three things: the round trip, what the receiver has taken up, and that all that had left before the
probe was received.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from fdn.runtime.facts import Fact, LinkCongested, LinkRelieved
from fdn.runtime.flow.pace import PaceSample, SendPace
from fdn.runtime.flow.tuner import BATCH_BYTES_MAX, Tuner, TunerSample
from fdn.runtime.lanes import Lanes
from fdn.runtime.link import Link
from fdn.runtime.sessions import Session
from fdn.settings import DataSettings
from transports.credit import STEPS_MAX, STEPS_MIN
from transports.transport import Connection, ConnectionStats
from transports.wire.envelope import Envelope, Kind

__all__ = ("PROBE", "FlowStats", "Governor")

PROBE: Final = "fdn.probe"
_BUSY_S: Final = 0.05  # between two looks while any link is in use
_IDLE_S: Final = 0.5
_LITTLE: Final = 32  # messages between two looks that make no link busy
_LITTLE_BYTES: Final = 64 * 1024
_MESSAGES_MIN: Final = 64  # what a link may always have under way, if the peer lets it
_BYTES_MIN: Final = 128 * 1024
_PAUSE_S: Final = 1.0  # without use, after which a link is idle
_LATE_S: Final = 0.25  # an answer that is not there by then counts as a round trip that took as long
_PROBE_PATIENCE_S: Final = 5.0  # then an answer is given up, and another probe sent
_encode: Final = msgspec.msgpack.Encoder().encode
_probe_decoder: Final = msgspec.msgpack.Decoder(tuple[int, int, int])
_answer_decoder: Final = msgspec.msgpack.Decoder(tuple[int, int, int, int, int])


@dataclasses.dataclass(frozen=True, slots=True)
class FlowStats:
    """What the governor makes of one link now."""

    rtt_us: int  # round trip, smoothed; 0 as long as none was measured
    rtt_min_us: int  # the least of the last minutes
    share: float  # of the peer's credit that may be used, above 0 to 1
    window_messages: int  # what that is in messages; 0 is no limit
    batch_bytes: int
    lanes: int  # in use to this peer on this channel
    congested: bool
    explain: tuple[str, ...]  # why this window, this batch size, so many lanes, and where the last message went


class _Flow:
    """One link epoch."""

    __slots__ = (
        "answered",
        "before",
        "epoch",
        "held_back",
        "mark",
        "number",
        "pace",
        "probed_at",
        "rate",
        "rtt_s",
        "steps",
        "used_at",
    )

    def __init__(self, link: Link, backlog_s: float, now: float, stats: ConnectionStats) -> None:
        self.epoch = link.epoch
        self.pace = SendPace(backlog_s)
        self.pace.on_sample(PaceSample(now, True, 0, False, 0, link.handshake_s or None, 0))
        self.before = stats
        self.number = 0
        self.probed_at: float | None = None  # of the probe that is not answered
        self.mark: int | None = None  # of the keys that its answer confirms
        self.rtt_s: float | None = None  # of an answer that is not in a sample yet
        self.answered: tuple[float, int] | None = None  # when the last answer came, and how much was consumed then
        self.rate: float | None = None  # messages a second that are consumed: between the last two answers
        self.held_back = (0, 0)
        self.used_at = float("-inf")
        self.steps = STEPS_MIN  # that the peer has confirmed


class Governor:
    """See the module. All methods belong to the data plane's loop.

    Args:
        links: All our links.
        lanes_of: The lanes that a link is one of; None if it is the only one and was never asked for them.
        settings: `data`.
        publish: Takes facts.
    """

    def __init__(
        self,
        links: Callable[[], Iterator[Link]],
        lanes_of: Callable[[Link], Lanes | None],
        settings: DataSettings,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[Fact], None],
    ) -> None:
        self._links = links
        self._lanes_of = lanes_of
        self._acts = settings.adapt != "off"
        self._tunes_lanes = settings.adapt == "lanes"
        self._backlog_s = settings.backlog_s
        self._loop = loop
        self._publish = publish
        self._flows: dict[Link, _Flow] = {}
        self._tuners: dict[Link, Tuner] = {}  # by lane 0
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._looked_at = self._loop.time()
        self._timer = self._loop.call_later(_IDLE_S, self._look)

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flow(self, link: Link) -> FlowStats:
        """What it makes of an open link."""
        flow, tuner = self._flows.get(link), self._tuners.get(link.first)
        pace = flow.pace if flow is not None and flow.epoch == link.epoch else SendPace(self._backlog_s)
        lanes = self._lanes_of(link)
        active = 1 if lanes is None else lanes.active
        window = link.credit[0]
        used = _part(window, pace.share if self._acts else 1.0, _MESSAGES_MIN)
        batch_bytes = BATCH_BYTES_MAX if tuner is None else tuner.batch_bytes
        tunes = tuner is not None and self._tunes_lanes
        explain = [
            f"window: {used} of {window} messages: {pace.why}" if window else "window: the peer sets no limit",
            f"batch: {batch_bytes} bytes: " + ("as set" if tuner is None else tuner.why_batch),
            f"lanes: {active} in use: " + (tuner.why_lanes if tuner is not None and tunes else "as set"),
        ]
        if lanes is not None and lanes.why:
            explain.append(f"the last message took lane {lanes.last}: {lanes.why}")
        return FlowStats(
            rtt_us=round(1e6 * pace.rtt_s),
            rtt_min_us=round(1e6 * pace.floor_s),
            share=round(pace.share, 4),
            window_messages=used,
            batch_bytes=batch_bytes,
            lanes=active,
            congested=pace.congested,
            explain=tuple(explain),
        )

    # -- probes

    def on_probe(self, session: Session, envelope: Envelope) -> bool:
        """A peer probes one of its connections to us. False: that is no probe."""
        try:
            epoch, number, steps = _probe_decoder.decode(envelope.body)
        except (ValueError, RecursionError):
            return False
        if epoch == session.hello.epoch:
            grant = session.grant
            grant.steps = max(STEPS_MIN, min(STEPS_MAX, steps))
            answer = (epoch, number, grant.steps, grant.messages_received, grant.messages_consumed)
            session.answer(Envelope(Kind.CORE, PROBE, body=msgspec.Raw(_encode(answer))))
        return True

    def on_answer(self, links: Iterable[Link], envelope: Envelope) -> bool:
        """A peer answers a probe of ours. False: that is no answer.

        Args:
            links: Those to this peer.
        """
        try:
            epoch, number, steps, _, consumed = _answer_decoder.decode(envelope.body)
        except (ValueError, RecursionError):
            return False
        for link in links:
            flow = self._flows.get(link)
            if flow is None or flow.epoch != epoch or link.epoch != epoch:
                continue
            if flow.probed_at is None or flow.number != number:
                break  # late, or never asked
            now = self._loop.time()
            flow.rtt_s, flow.probed_at = now - flow.probed_at, None
            if flow.answered is not None and now > flow.answered[0]:
                flow.rate = max(0, consumed - flow.answered[1]) / (now - flow.answered[0])
            flow.answered = now, consumed
            flow.steps = max(STEPS_MIN, min(STEPS_MAX, steps))
            lanes = self._lanes_of(link)
            if lanes is not None and flow.mark is not None:
                lanes.table.on_received(link.lane, flow.mark)
            if link.connection is not None:
                self._apply(link, link.connection, flow)
            break
        return True

    def _probe(self, link: Link, connection: Connection, flow: _Flow, waiting: int) -> None:
        now = self._loop.time()
        if flow.probed_at is not None and now - flow.probed_at < _PROBE_PATIENCE_S:
            return
        lanes = self._lanes_of(link)
        flow.number += 1
        flow.probed_at = now
        # What waits in our queue is overtaken by the probe, and so is not confirmed by its answer.
        flow.mark = None if lanes is None or waiting else lanes.table.mark(link.lane)
        body = msgspec.Raw(_encode((flow.epoch, flow.number, _steps(flow.pace.share))))
        connection.send_exempt(Envelope(Kind.CORE, PROBE, body=body))

    # -- looking

    def _look(self) -> None:
        now = self._loop.time()
        seconds, self._looked_at = max(1e-3, now - self._looked_at), now
        busy = False
        seen: set[Link] = set()
        totals: dict[Link, tuple[int, bool, bool]] = {}  # by lane 0: bytes, held up, something waits
        for link in self._links():
            connection = link.connection
            if connection is None:
                continue
            seen.add(link)
            stats = connection.stats()
            flow = self._flows.get(link)
            if flow is None or flow.epoch != link.epoch:
                flow = self._flows[link] = _Flow(link, self._backlog_s, now, stats)
                continue
            before, flow.before = flow.before, stats
            messages = stats.messages_sent - before.messages_sent
            size = stats.bytes_sent - before.bytes_sent
            if messages > _LITTLE or size > _LITTLE_BYTES or stats.queued_messages:
                flow.used_at = now
            if now - flow.used_at < _PAUSE_S:
                busy = True
            was_congested = flow.pace.congested
            self._sample(link, flow, stats, before, messages, seconds)
            if flow.used_at == now:
                self._probe(link, connection, flow, stats.queued_messages)
            self._apply(link, connection, flow)
            self._tell(link, flow, was_congested, now)
            held_up = stats.hwm_hits > before.hwm_hits
            sums = totals.get(link.first, (0, False, False))
            totals[link.first] = (sums[0] + size, sums[1] or held_up, sums[2] or stats.queued_messages > 0)
        for gone in self._flows.keys() - seen:
            del self._flows[gone]
        for gone in self._tuners.keys() - totals.keys():
            del self._tuners[gone]
        if self._acts:
            for first, (size, held_up, waits) in totals.items():
                self._tune(first, TunerSample(seconds, size, held_up, waits))
        self._timer = self._loop.call_later(_BUSY_S if busy else _IDLE_S, self._look)

    def _sample(
        self, link: Link, flow: _Flow, stats: ConnectionStats, before: ConnectionStats, messages: int, seconds: float
    ) -> None:
        now = self._looked_at
        if flow.rtt_s is None and flow.probed_at is not None and now - flow.probed_at > _LATE_S:
            flow.rtt_s = now - flow.probed_at  # at least so long
        retransmitted, link.retransmitted = link.retransmitted, 0
        flow.pace.on_sample(
            PaceSample(
                now=now,
                idle=now - flow.used_at >= _PAUSE_S,
                consumed=messages if flow.rate is None else round(flow.rate * seconds),
                starved=stats.credit_stalls > before.credit_stalls,
                retransmitted=retransmitted,
                rtt_s=flow.rtt_s,
                window=link.credit[0],
            )
        )
        flow.rtt_s = None

    def _apply(self, link: Link, connection: Connection, flow: _Flow) -> None:
        """A smaller share only as far as the peer grants in steps small enough for it, or we would wait for CREDIT that
        it does not send before half of its own window is consumed.
        """
        if not self._acts:
            return
        share = max(flow.pace.share, 2 / flow.steps) if flow.steps > STEPS_MIN else 1.0
        messages, size = link.credit
        held_back = messages - _part(messages, share, _MESSAGES_MIN), size - _part(size, share, _BYTES_MIN)
        if held_back != flow.held_back:
            flow.held_back = held_back
            connection.hold_back(*held_back)

    def _tell(self, link: Link, flow: _Flow, was_congested: bool, now: float) -> None:
        pace = flow.pace
        if pace.congested and not was_congested:
            self._publish(LinkCongested(now, link.peer, link.channel.value, link.lane, pace.why))
        elif was_congested and not pace.congested:
            self._publish(LinkRelieved(now, link.peer, link.channel.value, link.lane))

    def _tune(self, first: Link, sample: TunerSample) -> None:
        lanes = self._lanes_of(first)
        tuner = self._tuners.get(first)
        if tuner is None:
            active = 1 if lanes is None else lanes.active
            tuner = self._tuners[first] = Tuner(active, active)
        if not tuner.on_sample(sample):
            return
        for link in (first, *first.siblings):
            if link.connection is not None:
                link.connection.limit_batches(tuner.batch_bytes)
        if lanes is not None and self._tunes_lanes:
            lanes.limit(tuner.lanes)


def _steps(share: float) -> int:
    return max(STEPS_MIN, min(STEPS_MAX, math.ceil(2 / share)))


def _part(whole: int, share: float, least: int) -> int:
    return min(whole, max(least, int(whole * share)))

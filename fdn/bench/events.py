"""Events from one publisher to few and to many subscribers, read by iterators and by handlers, in turns within one run.

Who is measured is a `Contestant`: a process that publishes and some that subscribe, over which the subscribers of a
round are spread evenly. `tools/peers` puts other libraries in fdn's place.
"""

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fdn.bench.event_nodes import FORMS
from fdn.bench.plan import ANSWER_S, ROUNDS, Plan, in_turn
from fdn.bench.worker import Worker

__all__ = ("Contestant", "EventPlan", "Figure", "contestant", "measure_events", "one_round", "report", "rows")


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """Connected processes of one library.

    Attributes:
        publisher: Carries out `publish`.
        subscribers: Carry out `subscribe`, `tally` and `unsubscribe`: see `fdn.bench.event_nodes`.
    """

    publisher: Worker
    subscribers: Sequence[Worker]


@dataclasses.dataclass(frozen=True, slots=True)
class EventPlan(Plan):
    """One run.

    Attributes:
        subscribers: How many there are, in turn.
        forms: How they read: `iterator`, `callback` (an `async def` handler), `function` (a plain one).
        processes: How many processes the subscribers are spread over.
    """

    subscribers: tuple[int, ...] = (1, 5, 50)
    forms: tuple[str, ...] = FORMS
    processes: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One round of one form with one number of subscribers.

    Attributes:
        sent: Events published.
        received: Over all subscribers.
        events_per_s: `received`, by the time from the first publish to the last arrival.
        publisher_us: Processor time of the publishing process for one event published.
        subscriber_us: Processor time of the subscribing processes for one event received.
    """

    sent: int
    received: int
    events_per_s: float
    publisher_us: float
    subscriber_us: float


@contextlib.contextmanager
def contestant(transport: str, processes: int) -> Iterator[Contestant]:
    """Nodes of fdn, one a process; ended with the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fdn-bench-")))

        def endpoint(name: str) -> str:
            return "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{folder / name}"

        publisher = stack.enter_context(Worker("event-publisher", endpoint=endpoint("p")))
        subscribers = [
            stack.enter_context(
                Worker("event-subscriber", endpoint=endpoint(f"s{number}"), join=publisher.ready["endpoint"])
            )
            for number in range(processes)
        ]
        yield Contestant(publisher, subscribers)


def measure_events(plan: EventPlan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them. Returns what `report` makes of it."""
    figures: dict[tuple[int, str], list[Figure]] = {(n, form): [] for n in plan.subscribers for form in plan.forms}
    with contestant(plan.transport, plan.processes) as fdn:
        plan.say("warming up")
        for n, form in figures:
            one_round(fdn, n, form, plan.warm_up())
        for number in range(1, ROUNDS + 1):
            plan.say(f"round {number} of {ROUNDS}")
            for n, form in in_turn(figures, number):
                figures[n, form].append(one_round(fdn, n, form, plan.round()))
    return report(figures) | {"transport": plan.transport, "size": plan.size, "processes": plan.processes}


def one_round(who: Contestant, n: int, form: str, amount: dict[str, Any]) -> Figure:
    """Subscribe, publish for a while, count what arrives, and unsubscribe."""
    crowd = [
        (worker, share)
        for worker, share in zip(who.subscribers, _shares(n, len(who.subscribers)), strict=True)
        if share
    ]
    for worker, share in crowd:
        worker.ask("subscribe", ANSWER_S, form=form, count=share)
    published = who.publisher.ask("publish", ANSWER_S, **amount)
    for worker, share in crowd:
        worker.tell("tally", expected=share * published["sent"])
    tallies = [worker.answer(ANSWER_S) for worker, _ in crowd]
    for worker, _ in crowd:
        worker.ask("unsubscribe", ANSWER_S)
    received = sum(tally["received"] for tally in tallies)
    elapsed_s = max(tally["ended_at"] for tally in tallies) - published["started_at"]
    return Figure(
        published["sent"],
        received,
        received / elapsed_s,
        published["used_s"] / published["sent"] * 1e6,
        sum(tally["used_s"] for tally in tallies) / max(received, 1) * 1e6,
    )


def report(figures: dict[tuple[int, str], list[Figure]]) -> dict[str, Any]:
    """What is told of a run.

    Returns:
        For each form `events_per_s` by number of subscribers, the median of the rounds; `iterator_to_callback` and
        `iterator_to_function`, the same way, medians of the ratios within each round; `sent`, `received` and `lost`
        over all rounds; `rows`, and `rounds`, every figure.
    """
    result: dict[str, Any] = {}
    for form in dict.fromkeys(form for _, form in figures):
        rates = {str(n): _median(rounds, "events_per_s") for (n, of), rounds in figures.items() if of == form}
        result[form] = {"events_per_s": rates}
    every = [figure for rounds in figures.values() for figure in rounds]
    sent = sum(n * figure.sent for (n, _), rounds in figures.items() for figure in rounds)
    received = sum(figure.received for figure in every)
    return {
        # Of the first form, at the top, for whoever wants one number.
        "events_per_s": next(iter(result.values()))["events_per_s"],
        "iterator_to_callback": _ratios(figures, "callback"),
        "iterator_to_function": _ratios(figures, "function"),
        **result,
        "sent": sent,  # to each subscriber one
        "received": received,
        "lost": sent - received,
        "rows": rows(figures),
        "rounds": [
            {"subscribers": n, "form": form, "round": number, **dataclasses.asdict(figure)}
            for (n, form), rounds in figures.items()
            for number, figure in enumerate(rounds)
        ],
    }


def rows(figures: dict[tuple[int, str], list[Figure]]) -> list[dict[str, Any]]:
    """One row for each form with each number of subscribers: medians, and the lowest and highest round."""
    return [
        {
            "subscribers": n,
            "form": form,
            "events_per_s": _median(rounds, "events_per_s"),
            "lowest": round(min(figure.events_per_s for figure in rounds)),
            "highest": round(max(figure.events_per_s for figure in rounds)),
            "publisher_us": _median(rounds, "publisher_us", 2),
            "subscriber_us": _median(rounds, "subscriber_us", 2),
            "lost": sum(n * figure.sent - figure.received for figure in rounds),
        }
        for (n, form), rounds in figures.items()
    ]


def _ratios(figures: dict[tuple[int, str], list[Figure]], other: str) -> dict[str, float]:
    """The iterator's rates to those of another form, by number of subscribers; empty if one was not measured."""
    return {
        str(n): round(statistics.median(a.events_per_s / b.events_per_s for a, b in pairs), 3)
        for n in dict.fromkeys(n for n, _ in figures)
        if (pairs := list(zip(figures.get((n, "iterator"), ()), figures.get((n, other), ()), strict=False)))
    }


def _median(rounds: Sequence[Figure], name: str, digits: int | None = None) -> float:
    middle: float = statistics.median(getattr(figure, name) for figure in rounds)
    return round(middle, digits)


def _shares(n: int, processes: int) -> list[int]:
    """`n` in so many parts, as even as can be."""
    return [n // processes + (number < n % processes) for number in range(processes)]

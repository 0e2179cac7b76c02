from typing import Any

from fdn.bench.event_nodes import FORMS
from fdn.bench.events import Contestant, EventPlan, Figure, measure_events, one_round, report
from fdn.bench.plan import ROUNDS


def test_nothing_is_lost_and_everything_is_reported() -> None:
    said: list[str] = []
    result = measure_events(EventPlan(size=10, count=200, duration_s=0.05, subscribers=(1, 3), say=said.append))
    assert (result["sent"], result["received"], result["lost"]) == (3 * 800, 3 * 800, 0)
    assert result["events_per_s"] == result["iterator"]["events_per_s"]
    for part in (*(result[form]["events_per_s"] for form in FORMS), result["iterator_to_callback"]):
        assert set(part) == {"1", "3"}
        assert all(rate > 0 for rate in part.values())
    assert len(result["rows"]) == 2 * len(FORMS)
    assert len(result["rounds"]) == 2 * len(FORMS) * ROUNDS
    assert (result["transport"], result["processes"], result["size"]) == ("tcp", 2, 10)
    assert len(said) == 1 + ROUNDS


class FakeWorker:
    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.orders: list[tuple[str, dict[str, Any]]] = []

    def tell(self, order: str, **arguments: Any) -> None:
        self.orders.append((order, arguments))

    def answer(self, timeout_s: float) -> dict[str, Any]:
        return self.answers[self.orders[-1][0]]

    def ask(self, order: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        self.tell(order, **arguments)
        return self.answer(timeout_s)


def test_a_round_spreads_subscribers_and_counts_what_comes() -> None:
    publisher = FakeWorker(publish={"sent": 10, "started_at": 100.0, "used_s": 0.001})
    shared: dict[str, Any] = {"subscribe": {}, "unsubscribe": {}}
    subscribers = [
        FakeWorker(tally={"received": 30, "ended_at": 101.0, "used_s": 0.1}, **shared),
        FakeWorker(tally={"received": 19, "ended_at": 102.0, "used_s": 0.2}, **shared),
    ]
    figure = one_round(Contestant(publisher, subscribers), 5, "iterator", {"size": 1})  # type: ignore[arg-type]
    assert figure == Figure(10, 49, 24.5, 100.0, figure.subscriber_us)
    assert round(figure.subscriber_us) == round(0.3 / 49 * 1e6)
    assert [worker.orders[0][1]["count"] for worker in subscribers] == [3, 2]
    assert [worker.orders[1][1]["expected"] for worker in subscribers] == [30, 20]


def test_medians_ratios_of_the_same_round_and_losses() -> None:
    def figures(*rates: float) -> list[Figure]:
        return [Figure(10, 50, rate, 1.0, 2.0) for rate in rates]

    result = report({(5, "iterator"): figures(1.0, 2.0, 9.0), (5, "callback"): figures(2.0, 2.0, 3.0)})
    assert result["events_per_s"] == {"5": 2}
    assert result["iterator_to_callback"] == {"5": 1.0}
    assert result["iterator_to_function"] == {}
    assert (result["sent"], result["received"], result["lost"]) == (300, 300, 0)
    assert (result["rows"][0]["lowest"], result["rows"][0]["highest"]) == (1, 9)

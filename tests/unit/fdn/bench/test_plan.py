import pytest

from fdn.bench import plan as module
from fdn.bench.plan import ROUNDS, Plan, in_turn, pairs


def test_a_round_is_a_part_of_the_whole() -> None:
    assert Plan(duration_s=5.0).round() == {"size": 100, "seconds": 5.0 / ROUNDS, "count": None}
    assert Plan(count=11).round()["count"] == 3  # rounded up: no figure without a message
    assert Plan(duration_s=5.0, count=30).round(15) == {**Plan(count=10).round(), "count": 2}
    assert Plan(duration_s=0.1).warm_up()["seconds"] == 0.1


def test_another_one_is_first_in_each_round() -> None:
    assert [in_turn("abc", number) for number in range(4)] == [list(text) for text in ("abc", "bca", "cab", "abc")]


class FakeWorker:
    made: list["FakeWorker"]

    def __init__(self, role: str, **arguments: str) -> None:
        self.role, self.arguments, self.open = role, arguments, True
        self.ready = {"endpoint": "tcp://h:1"} if role == "node-receiver" else {"pull": "a", "dealer": "b"}
        if role == "raw-sender" and arguments["pull"] != "a":
            raise AssertionError
        self.made.append(self)

    def __enter__(self) -> "FakeWorker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.open = False


@pytest.mark.parametrize(("transport", "scheme"), [("tcp", "tcp://127.0.0.1:"), ("ipc", "ipc:///")])
def test_two_pairs_are_connected_and_ended(transport: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.made = []
    monkeypatch.setattr(module, "Worker", FakeWorker)
    with pairs(transport):
        assert [worker.role for worker in FakeWorker.made] == [
            "node-receiver",
            "node-sender",
            "raw-receiver",
            "raw-sender",
        ]
        assert FakeWorker.made[1].arguments["join"] == "tcp://h:1"
        assert all(worker.arguments["endpoint"].startswith(scheme) for worker in FakeWorker.made[:3])
    assert not any(worker.open for worker in FakeWorker.made)

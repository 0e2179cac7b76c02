from fdn.bench.worker import Worker


def test_each_message_is_counted_and_echoed() -> None:
    amount = {"size": 10, "seconds": 30.0, "count": 1000}
    with (
        Worker("raw-receiver", endpoint="tcp://127.0.0.1:*") as receiver,
        Worker("raw-sender", **receiver.ready) as sender,
    ):
        for _ in range(2):
            receiver.tell("count")
            cast = sender.ask("cast", 30.0, **amount)
            counted = receiver.answer(30.0)
            assert (cast["sent"], counted["received"]) == (1000, 1000)
            assert counted["ended_at"] > cast["started_at"]
            receiver.tell("echo")
            assert sender.ask("latency", 30.0, **amount)["calls"] == 1000
            receiver.answer(30.0)
            receiver.tell("echo")
            assert sender.ask("calls", 30.0, in_flight=64, **amount)["calls"] == 1000
            receiver.answer(30.0)

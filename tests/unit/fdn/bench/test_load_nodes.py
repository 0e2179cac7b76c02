import contextlib

from fdn.bench.worker import Worker


def test_all_call_the_others_on_schedule() -> None:
    names = ["node-1", "node-2", "node-3"]
    with contextlib.ExitStack() as stack:
        members: list[Worker] = []
        for seed, name in enumerate(names):
            join = {"join": members[0].ready["endpoint"]} if members else {}
            worker = Worker("load-member", endpoint="tcp://127.0.0.1:0", name=name, seed=seed, **join)
            members.append(stack.enter_context(worker))
        for member in members:
            assert member.ask("ready", 30.0, names=names) == {}
        closed = members[0].ask("capacity", 30.0, size=10, seconds=0.1, in_flight=4)
        assert closed["answered"] > 0
        bulk = {"bulk_to": "node-2", "bulk_size": 100_000, "bulk_mb_s": 5.0}
        calls = members[0].ask("calls", 30.0, size=10, rate=200.0, seconds=0.2, **bulk)
        assert calls["outcomes"]["answered"] == len(calls["durations_us"]) > 0
        assert calls["in_time"] <= calls["outcomes"]["answered"]
        assert calls["bulk_bytes"] >= 100_000
        assert members[1].ask("calls", 30.0, size=10, rate=200.0, seconds=0.1)["bulk_bytes"] == 0

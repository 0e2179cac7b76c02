import threading

from fdn.sync.workers import Workers


def test_as_many_threads_as_acts_at_once_and_then_the_same_again():
    workers = Workers("test")
    together = threading.Barrier(3)
    done = threading.Semaphore(0)

    def act() -> None:
        together.wait(10)
        done.release()

    for _ in range(2):
        for _ in range(3):
            workers.submit(act)
        for _ in range(3):
            assert done.acquire(timeout=10)
        while workers._idle < 3:  # a thread says that it is done before it is idle
            pass
    assert workers.threads == 3
    workers.end()


def test_the_end_waits_for_nothing_and_ends_the_threads():
    workers = Workers("fdn-test-ends")
    begun, go = threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        go.wait(10)

    workers.submit(act)
    assert begun.wait(10)
    workers.end()
    workers.end()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("fdn-test-ends")]
    assert len(threads) == 1
    assert threads[0].daemon
    go.set()
    threads[0].join(10)
    assert not threads[0].is_alive()

import os
import sys
import time
from collections.abc import Callable

import pytest
import zmq

from transports.zmq.threads import be_nice, io_threads, name_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are found in /proc, which only Linux has")


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < ends_at


def test_the_threads_of_one_context_are_found_and_made_nice():
    with zmq.Context(2) as context, zmq.Context() as other:
        number, another = name_threads(context), name_threads(other)
        assert number != another
        assert io_threads(number) == []
        assert not be_nice(number, 3, 2)  # they begin with the first socket
        with context.socket(zmq.PULL), other.socket(zmq.PULL):
            until(lambda: be_nice(number, 3, 2))
            until(lambda: bool(io_threads(another)))
            own = os.getpriority(os.PRIO_PROCESS, 0)
            assert [os.getpriority(os.PRIO_PROCESS, thread) for thread in io_threads(number)] == [3, 3]
            assert [os.getpriority(os.PRIO_PROCESS, thread) for thread in io_threads(another)] == [own]


def test_what_the_system_does_not_allow_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def refuse(which: int, who: int, nice: int) -> None:
        raise PermissionError("not yours")

    with zmq.Context() as context:
        number = name_threads(context)
        with context.socket(zmq.PULL):
            monkeypatch.setattr(os, "setpriority", refuse)
            until(lambda: be_nice(number, 3, 1))
    assert "not yours" in caplog.text

import itertools
import os
import time

from fdn.bench import metronome
from fdn.bench.metronome import Metronome


def test_ticks_are_due_as_planned_however_late_they_are_read() -> None:
    before = time.monotonic()
    ticks: list[float] = []
    with Metronome(1000, 0.05) as source:
        assert before < source.begins_at < time.monotonic() + 0.1
        while (more := source.read()) is not None:
            ticks += more
    assert len(ticks) == 50
    assert ticks[0] == source.begins_at
    assert all(abs(later - earlier - 0.001) < 1e-6 for earlier, later in itertools.pairwise(ticks))


def test_half_a_tick_waits_for_its_other_half() -> None:
    with Metronome(1, 0) as source:
        there, here = os.pipe()
        source.fileno = lambda: there  # type: ignore[method-assign]
        os.write(here, metronome._TICK.pack(2_000_000_000) + b"\0\0\0")
        assert source.read() == [2.0]
        os.write(here, metronome._TICK.pack(3_000_000_000)[3:])
        assert source.read() == [3.0]
        os.close(here)
        assert source.read() is None
        os.close(there)


def test_nobody_is_left_when_it_is_closed() -> None:
    source = Metronome(10, 60)
    source.close()
    assert source._process.returncode is not None
    source.close()

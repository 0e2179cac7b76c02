"""Studies: measurements that the papers on these protocols made, made again of the code that runs in production.

A scenario (`fdn.sim.report`) asks whether something holds over many seeds; a study asks how much. Everything is
simulated, on virtual time, and its result says so. The figures of a paper stand beside ours and are never mixed with
them: they were measured on other simulators, with other models of time.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ("Study", "StudyRequest")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StudyRequest:
    """What to measure.

    Attributes:
        nodes: How many.
        seed: Of all chance.
        messages: Broadcasts for each figure that is a mean over broadcasts.
        cycles: Cycles before measuring; one cycle is a shuffle interval.
        edges: Where to write the links and the hops of each broadcast, for other tools to compute the same.
        progress: Told in a word what is being done.
    """

    nodes: int
    seed: int
    messages: int
    cycles: int
    edges: Path | None = None
    progress: Callable[[str], object] = lambda text: None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One measurement.

    Attributes:
        name: For the command line.
        summary: One line for people.
        nodes: How many unless told otherwise.
        messages: See `StudyRequest`.
        cycles: See `StudyRequest`.
        measure: Makes it; returns what JSON can hold.
        table: The result for people, in lines.
    """

    name: str
    summary: str
    nodes: int
    messages: int
    cycles: int
    measure: Callable[[StudyRequest], Mapping[str, Any]]
    table: Callable[[Mapping[str, Any]], list[str]]

"""A whole simulated system: a world, its network, and processes by name."""

from collections.abc import Callable

from fdn.sim.network import Network, Path
from fdn.sim.process import Process, Program
from fdn.sim.world import World

__all__ = ("Simulation",)


class Simulation:
    """Everything of one run.

    Args:
        seed: See `World`.
        path: What the network is like; see `Network`.

    Attributes:
        world: Time, chance and notes.
        network: Between the processes.
        processes: By name, in the order in which they were added.
    """

    def __init__(self, seed: int, path: Path | None = None) -> None:
        self.world = World(seed)
        self.network = Network(self.world, path)
        self.processes: dict[str, Process] = {}

    def add(self, name: str, program: Callable[[Process], Program], *, start: bool = True) -> Process:
        """Put up a machine.

        Args:
            name: It is reachable under it.
            program: Makes the program of each of its lives.
            start: Let it run at once.

        Raises:
            ValueError: There is one of that name.
        """
        if name in self.processes:
            raise ValueError(f"there is a process {name!r}; names are for life, start() brings back one that crashed")
        process = self.processes[name] = Process(self.world, self.network, name, program)
        if start:
            process.start()
        return process

    def run(self, seconds: float, until: Callable[[], object] | None = None) -> float | None:
        """Let time pass; see `World.run`."""
        return self.world.run(seconds, until)

    def running(self) -> list[Process]:
        """Those that are up and not stopped."""
        return [process for process in self.processes.values() if process.up and not process.stopped]

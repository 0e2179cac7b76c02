"""Clusters for tests: of real processes, with a network that can be made bad; or in one loop, on a clock that jumps.

Each name is imported when first used: the pytest plugin is loaded in every test run of whoever has fdn installed.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fdn.testing.clock import until, virtual
    from fdn.testing.cluster import Cluster
    from fdn.testing.fault_proxy import FaultProxy
    from fdn.testing.node_process import NodeProcess, eventually, first_line
    from fdn.testing.processes import ProcessCluster

__all__ = ("Cluster", "FaultProxy", "NodeProcess", "ProcessCluster", "eventually", "first_line", "until", "virtual")

_HOMES: Final = {
    "Cluster": "cluster",
    "FaultProxy": "fault_proxy",
    "NodeProcess": "node_process",
    "ProcessCluster": "processes",
    "eventually": "node_process",
    "first_line": "node_process",
    "until": "clock",
    "virtual": "clock",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=__name__)
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # from now on found without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

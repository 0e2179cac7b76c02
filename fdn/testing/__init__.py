"""Clusters for tests: of real processes, with a network that can be made bad; or in one loop, on a clock that jumps."""

from fdn.testing.cluster import Cluster
from fdn.testing.fault_proxy import FaultProxy
from fdn.testing.processes import NodeProcess, ProcessCluster, eventually, first_line
from fdn.testing.virtual import until, virtual

__all__ = ("Cluster", "FaultProxy", "NodeProcess", "ProcessCluster", "eventually", "first_line", "until", "virtual")

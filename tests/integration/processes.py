"""What `fdn.testing` offers, under the names that these tests know it by."""

from fdn.testing.processes import NodeProcess, eventually, first_line
from fdn.testing.processes import ProcessCluster as Cluster

__all__ = ("Cluster", "NodeProcess", "eventually", "first_line")

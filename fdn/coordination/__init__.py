"""What the cluster agrees on, as a node holds it: `group` drives the cores of `consensus/` on the control plane."""

__all__ = ()

"""Nodes as processes of this machine, started, watched and ended by one parent: for `fdn up` and `fdn bench`."""

__all__ = ()

"""A local cluster of processes, and the demonstration that puts it to work: what `fdn up` runs."""

__all__ = ()

"""The blocking twins: the same verbs as `fdn.Client` and `fdn.Node`, for scripts and for programs with threads."""

from fdn.client import Client

__all__ = ("Client",)

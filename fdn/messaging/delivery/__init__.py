"""Delivery classes: at least once, effectively once, ordered by key, causal; pure cores, and one driver (`courier`)."""

__all__ = ()

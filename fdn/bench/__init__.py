"""Measurements of fdn on real processes: what the `fdn bench` commands run."""

__all__ = ()

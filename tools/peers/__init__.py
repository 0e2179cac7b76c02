"""Other libraries in fdn's place, in the same run: nothing of them is ever a dependency of fdn."""

__all__ = ()

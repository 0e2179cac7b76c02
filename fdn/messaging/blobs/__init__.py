"""Large immutable objects, named by their content, fetched in verified pieces from whoever holds them."""

__all__ = ()

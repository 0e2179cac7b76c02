"""The drivers that run the pure cores: two planes, their links, and what they tell one another."""

__all__ = ()

"""Memory that processes of one host share: segments under unguessable names, reclaimed with the last process that uses
them.
"""

__all__ = ()

"""What decides how a node sends, as pure cores: which lane, how much at once, what goes first when not all can.

Nothing here waits, reads a clock or touches a socket. The driver is `fdn.runtime.governor`.
"""

__all__ = ()

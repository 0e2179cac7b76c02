"""Who is alive and who talks to whom, as pure cores: membership, overlays, the healer, records that spread.

A core is handed an input and the time and returns effects (`handle(input, now)`, `next_deadline()`). Nothing in this
room imports `fdn`, `transports` or `consensus`, opens a socket or reads a clock.
"""

__all__ = ()

"""What the cluster agrees on, as pure cores: Raft comes here, with the log, sessions, locks and barriers it drives.

Nothing in this room imports `fdn`, `transports` or `topologies`, opens a socket or reads a clock. One folder touches
files, and no core imports it: `consensus.storage`.
"""

__all__ = ()

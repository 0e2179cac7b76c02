"""The thin client: for scripts and services that join nothing, bind nothing, and need pyzmq and msgpack only.

`Core` is the protocol without sockets, clocks or threads; `verbs` are what users do with it, as generators that say
what they wait for. Two drivers run them: `fdn.Client` on asyncio, `fdn.sync.Client` with a thread. Wire format:
`docs/spec/0001-wire.md`.
"""

__all__ = ()

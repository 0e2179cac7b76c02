"""The wire format: `docs/spec/0001-wire.md` as code."""

__all__ = ()

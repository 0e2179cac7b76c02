"""What users do with messages: services, calls and casts, and who serves what."""

__all__ = ()

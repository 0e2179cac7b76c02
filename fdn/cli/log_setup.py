"""Logging of `fdn node run`: lines for people or JSON for collectors, on standard error.

The library logs through the standard `logging` alone; only a process that is ours decides what becomes of the lines.
"""

import logging
import sys
from typing import Any, Final, TextIO

import structlog

from fdn.settings import LogSettings

__all__ = ("configure",)

_ROOMS: Final = ("fdn", "transports", "topologies", "consensus")


def configure(settings: LogSettings, stream: TextIO | None = None, color: bool | None = None) -> None:
    """Send every log line of this process to one stream. May be called again; the last call counts.

    Args:
        settings: Level and format. The level is for our own packages; others stay at warning, or above it.
        stream: Standard error unless given.
        color: Whether console lines have colour; None goes by the stream.
    """
    target = stream or sys.stderr
    renderers: list[Any]
    if settings.format == "json":
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        renderers = [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty() if color is None else color,
                # Not the default, which changes its looks with whether `rich` is installed.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),  # `extra={"peer": ...}` become fields
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for room in _ROOMS:
        logging.getLogger(room).setLevel(level)
    logging.captureWarnings(True)

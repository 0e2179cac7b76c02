import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from fdn.cli.log_setup import configure
from fdn.settings import LogSettings


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", "fdn", "transports", "topologies", "consensus")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def logged(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(LogSettings(**settings), stream)
    return stream


def test_json_lines_carry_level_logger_time_and_fields() -> None:
    stream = logged(format="json")
    logging.getLogger("fdn.runtime.link").info("member %s suspect", "n3", extra={"peer": "n3", "what": object})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "member n3 suspect",
        "level": "info",
        "logger": "fdn.runtime.link",
        "peer": "n3",
        "what": "<class 'object'>",
    }


def test_an_exception_stays_on_its_line() -> None:
    stream = logged(format="json")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("fdn").exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: boom")


def test_console_lines_are_for_people_and_plain_without_a_terminal() -> None:
    stream = logged(format="console")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("fdn").exception("it failed", extra={"peer": "n3"})
    text = stream.getvalue()
    assert "it failed" in text
    assert "peer=n3" in text
    assert "\x1b" not in text
    assert text.rstrip().endswith("ValueError: boom")


@pytest.mark.parametrize(
    ("level", "ours", "theirs"), [("debug", 4, 2), ("info", 3, 2), ("warning", 2, 2), ("error", 1, 1)]
)
def test_the_level_is_for_our_own_packages(level: str, ours: int, theirs: int) -> None:
    stream = logged(level=level)
    for name, expected in (("transports.zmq", ours), ("asyncio", theirs)):
        stream.truncate(0)
        logger = logging.getLogger(name)
        for write in (logger.debug, logger.info, logger.warning, logger.error):
            write("line")
        assert stream.getvalue().count("line") == expected


def test_the_last_call_counts() -> None:
    first, second = logged(format="json"), logged(format="json")
    logging.getLogger("fdn").warning("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


def test_warnings_of_python_are_log_lines() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        stream = logged(format="json")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in json.loads(stream.getvalue())["event"]

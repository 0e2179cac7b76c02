import asyncio
import logging

import pytest

import fdn
from fdn.messaging.reporting import FailureLog
from tests.unit.fdn.harness import virtual


@virtual
async def test_a_flood_is_one_line_a_second(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    log = FailureLog(asyncio.get_running_loop(), "%d failed, the last %s: %s")
    for number in range(100):
        log.report(f"s{number}", fdn.BadRequest("no", hint="yes"))
    await asyncio.sleep(1)
    try:
        raise KeyError("here")
    except KeyError as error:
        log.report("s100", error)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "1 failed, the last s0: no; yes"
    assert second.startswith("100 failed, the last s100: Traceback")
    assert "KeyError: 'here'" in second

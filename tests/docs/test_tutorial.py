"""The tutorial keeps its promise: no quote fails while any of its processes is killed."""

import pytest

from tests.docs.conftest import Stage
from tests.docs.tutorial import survive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_no_idempotent_call_fails_while_each_process_is_killed_in_turn(stage: Stage):
    results = survive(stage)
    assert [killed.name for killed in results] == ["prices-1", "prices-2", "stock-1", "stock-2", "orders-1", "orders-2"]
    assert {killed.name: killed.failed for killed in results if killed.failed} == {}

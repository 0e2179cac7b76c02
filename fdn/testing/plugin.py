"""The pytest plugin: the fixture `cluster`, and the nodes' logs in the report of a test that failed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from fdn.testing.processes import ProcessCluster

__all__ = ("cluster", "pytest_runtest_makereport")

_clusters: "pytest.StashKey[list[ProcessCluster]]" = pytest.StashKey()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: "Path") -> "Iterator[ProcessCluster]":
    """Real nodes as processes, none of which outlives the test: an `fdn.testing.ProcessCluster`.

    `one, two, three = cluster(3, app="shop:app")`; with `faults=True` there are `cut`, `heal`, `slow` and `lossy` too.
    """
    # Only now: whoever has fdn installed pays for this module in every test run.
    from fdn.testing.processes import ProcessCluster

    with ProcessCluster(tmp_path / "cluster") as running:
        request.node.stash.setdefault(_clusters, []).append(running)
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Any:
    """Show how the logs of a failed test's nodes end."""
    report: pytest.TestReport = yield
    if report.failed and report.when != "teardown":
        for running in item.stash.get(_clusters, []):
            report.sections += [(f"log of {what}", log) for what, log in running.logs()]
    return report

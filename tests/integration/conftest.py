"""`cluster.start(3)` runs `fdn node run` three times, and nothing of it outlives the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import Cluster, own_environment


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    running = Cluster(folder, own_environment(tmp_path / "config"))
    try:
        yield running
    finally:
        running.close()

"""Programs in other languages beside a cluster of real nodes that the tests of a file share."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fdn.testing import NodeProcess, ProcessCluster
from tests.interop.peers import LANGUAGES, Peer

APP = "tests.interop.apps:app"

StartPeer = Callable[..., Peer]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sequence[str | Path]]:
    """How to start the program of a language; skips the test when it cannot run here."""
    commands: dict[str, Sequence[str | Path]] = {}
    reasons: dict[str, str] = {}

    def prepare(language: str) -> Sequence[str | Path]:
        if language not in reasons:
            reasons[language] = LANGUAGES[language].missing(Path(__file__).parents[2])
        if reasons[language]:
            pytest.skip(reasons[language])
        if language not in commands:
            commands[language] = LANGUAGES[language].prepare(tmp_path_factory.mktemp(language))
        return commands[language]

    return prepare


@pytest.fixture(params=list(LANGUAGES))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(prepared: Callable[[str], Sequence[str | Path]], language: str) -> Iterator[StartPeer]:
    """Start the program of the test's language, or of another; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(*nodes: NodeProcess, other: str | None = None) -> Peer:
            started = Peer(other or language, prepared(other or language))
            stack.callback(started.end)
            if nodes:
                started.ask("connect", endpoints=[node.endpoint for node in nodes], cluster="test")
            return started

        yield start


@pytest.fixture(scope="module")
def town() -> Iterator[list[NodeProcess]]:
    """Two nodes, for tests that leave them as they found them."""
    with ProcessCluster() as cluster:
        yield cluster(2, app=APP)


@pytest.fixture
def peer(start: StartPeer, town: list[NodeProcess]) -> Peer:
    """The program of the test's language, connected to the first node."""
    return start(town[0])

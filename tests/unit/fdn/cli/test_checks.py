import importlib
import importlib.metadata
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdn.cli import checks
from fdn.cli.checks import Check, Verdict, examine
from fdn.cli.contexts import ClusterContext
from fdn.cli.options import Invocation
from fdn.settings import setting_fields


@pytest.fixture
def listener() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_every_check_answers_and_names_are_unique() -> None:
    found = examine(Invocation())
    names = [check.name for check in found]
    assert len(names) == len(set(names))
    expected = {
        "python",
        "libzmq",
        "packages",
        "file descriptors",
        "clock",
        "shared memory",
        "loopback",
        "configuration",
        "context",
    }
    assert expected <= set(names)
    assert all(check.detail for check in found)
    assert all(check.hint for check in found if check.verdict is not Verdict.OK)


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks._python().verdict is Verdict.OK
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert checks._python().detail == "3.10.2, and fdn needs 3.11"


def zmq_twin(version: tuple[int, int, int], *features: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        zmq_version_info=lambda: version,
        zmq_version=lambda: ".".join(map(str, version)),
        pyzmq_version=lambda: "27",
        has=features.__contains__,
    )


@pytest.mark.parametrize(
    ("twin", "verdict", "said"),
    [
        (zmq_twin((4, 3, 5), "curve", "ipc"), Verdict.OK, "with curve and ipc"),
        (zmq_twin((4, 3, 5), "ipc"), Verdict.FAIL, "without curve"),
        (zmq_twin((4, 3, 5)), Verdict.FAIL, "without curve and ipc"),
        (zmq_twin((4, 2, 0), "curve", "ipc"), Verdict.FAIL, "needs 4.3.4"),
    ],
)
def test_libzmq(twin: object, verdict: Verdict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: twin)
    found = checks._libzmq()
    assert found.verdict is verdict
    assert said in found.detail


def test_a_pyzmq_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise ImportError("libzmq.so.5: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert checks._libzmq().verdict is Verdict.FAIL
    assert "libzmq.so.5" in checks._libzmq().detail


def test_another_distribution_with_one_of_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"fdn": ["fdn-cluster"], "transports": ["fdn-cluster", "buses"], "topologies": ["graphs"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    found = checks._packages()
    assert found.verdict is Verdict.FAIL
    assert found.detail == "transports is also in buses; topologies is also in graphs"
    monkeypatch.setattr(importlib.metadata, "packages_distributions", dict)
    assert checks._packages().verdict is Verdict.OK


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        ((128, 1024), Verdict.FAIL),
        ((1024, 4096), Verdict.WARN),
        ((65536, 65536), Verdict.OK),
        ((resource.RLIM_INFINITY,) * 2, Verdict.OK),
    ],
)
def test_descriptors(limit: tuple[int, int], verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: limit)
    assert checks._descriptors().verdict is verdict


def test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks._clock().verdict is Verdict.OK
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert "no boottime" in checks._clock().detail
    monkeypatch.setattr(time, "get_clock_info", lambda name: types.SimpleNamespace(resolution=0.0156))
    assert checks._clock().detail == "monotonic, in steps of 15.6 ms"


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks._shared_memory(tmp_path).detail.endswith(f"free in {tmp_path}")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1024))
    assert checks._shared_memory(tmp_path) == Check(
        "shared memory",
        Verdict.WARN,
        f"1KiB free in {tmp_path}",
        "free some, or give the container more: docker run --shm-size=1g",
    )
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert checks._shared_memory(tmp_path).verdict is Verdict.WARN
    assert "there is no" in checks._shared_memory(tmp_path / "gone").detail


def test_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks._loopback("loopback", socket.AF_INET, "127.0.0.1").verdict is Verdict.OK

    def down(*args: object, **kwargs: object) -> socket.socket:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", down)
    assert checks._loopback("loopback", socket.AF_INET, "127.0.0.1").verdict is Verdict.FAIL
    # Without IPv6 most clusters are fine.
    assert checks._loopback("loopback ipv6", socket.AF_INET6, "::1").verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("taken", "verdict", "said"),
    [
        (set(), Verdict.OK, "free on"),
        ({7400, 7401, 7402, 7403}, Verdict.OK, "by a node that runs"),
        ({7401}, Verdict.WARN, "in use on 127.0.0.1: 7401"),
    ],
)
def test_ports(taken: set[int], verdict: Verdict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_is_free", lambda port: port not in taken)
    found = checks._ports()
    assert (found.name, found.verdict) == ("ports 7400-7403", verdict)
    assert said in found.detail


def test_whether_a_port_is_free(listener: int, closed_port: int) -> None:
    assert not checks._is_free(listener)
    assert checks._is_free(closed_port)


def test_configuration() -> None:
    Path("fdn.toml").write_text('cluster = "blue"')
    (found,) = checks._configuration({})
    count = len(list(setting_fields()))
    assert (found.verdict, found.detail) == (Verdict.OK, f"fdn.toml; 1 of {count} settings given, the rest default")
    _, environment = checks._configuration({"FDN_JION": "a:1"})
    assert (environment.verdict, environment.name) == (Verdict.WARN, "environment")
    assert "did you mean FDN_JOIN?" in environment.detail
    Path("fdn.toml").write_text("clutser = 1")
    (found,) = checks._configuration({})
    assert found == Check("configuration", Verdict.FAIL, "fdn.toml:1: unknown key clutser", "did you mean cluster?")


def test_context(listener: int, closed_port: int) -> None:
    invocation = Invocation(timeout_s=1.0)
    assert checks._context(invocation).detail == "none in use"
    up, down = f"tcp://127.0.0.1:{listener}", f"tcp://127.0.0.1:{closed_port}"
    invocation.contexts.write("up", ClusterContext(join=(down, up)))
    invocation.contexts.use("up")
    assert checks._context(invocation).detail == f"up: {up} answers"
    invocation.contexts.write("up", ClusterContext(join=(down,)))
    found = checks._context(invocation)
    assert (found.verdict, found.detail) == (Verdict.FAIL, f"up: {down}: Connection refused")


def test_a_context_whose_cluster_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=30)
    invocation = Invocation()
    invocation.contexts.write("up", ClusterContext(join=("h:1",), pid=process.pid))
    invocation.contexts.use("up")
    assert checks._context(invocation).verdict is Verdict.WARN
    invocation.context = "up"
    assert checks._context(invocation).verdict is Verdict.FAIL

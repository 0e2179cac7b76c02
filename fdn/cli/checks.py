"""What `fdn doctor` looks at: each check answers one question about this machine, and never raises."""

import dataclasses
import enum
import importlib
import importlib.metadata
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fdn.cli.options import DEFAULT_TARGET, Invocation
from fdn.config_file import load
from fdn.errors import Error
from fdn.units import format_size
from transports.channel import Channel
from transports.endpoint import Endpoint

__all__ = ("Check", "Verdict", "examine")

_ROOMS: Final = ("fdn", "transports", "topologies", "consensus")
_PYTHON: Final = (3, 11)
_LIBZMQ: Final = (4, 3, 4)
# Four channels both ways are eight connections a pair, each a descriptor: with 1024 a node can hold some hundred peers.
_FDS_WARN: Final = 4096
_FDS_FAIL: Final = 256
_SHM_WARN: Final = 64 * 1024 * 1024


class Verdict(enum.StrEnum):
    """How one check came out. Only `fail` makes the whole degraded."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One answer.

    Attributes:
        name: What was looked at.
        verdict: How it came out.
        detail: What was found, with the values.
        hint: What to do, when it is not well.
    """

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def examine(invocation: Invocation) -> list[Check]:
    """Run every check, in the order in which a fault would matter."""
    return [
        _python(),
        _libzmq(),
        _packages(),
        _descriptors(),
        _clock(),
        _shared_memory(Path("/dev/shm")),
        _loopback("loopback", socket.AF_INET, "127.0.0.1"),
        _loopback("loopback ipv6", socket.AF_INET6, "::1"),
        _ports(),
        *_configuration(invocation.env),
        _context(invocation),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _PYTHON:
        return Check("python", Verdict.FAIL, f"{found}, and fdn needs 3.11", "run fdn with a newer Python")
    return Check("python", Verdict.OK, f"{found} at {sys.executable}")


def _libzmq() -> Check:
    hint = "install pyzmq's own wheel (pip install --force-reinstall pyzmq), which carries a complete libzmq"
    try:
        # By name: that it cannot be loaded is a finding, and only transports.zmq may depend on it.
        zmq = importlib.import_module("zmq")
    except ImportError as error:
        return Check("libzmq", Verdict.FAIL, f"pyzmq cannot be imported: {error}", hint)
    version = zmq.zmq_version_info()
    missing = [feature for feature in ("curve", "ipc") if not zmq.has(feature)]
    detail = f"{zmq.zmq_version()}, pyzmq {zmq.pyzmq_version()}"
    if version < _LIBZMQ:
        return Check("libzmq", Verdict.FAIL, f"{detail}; fdn needs {'.'.join(map(str, _LIBZMQ))}", hint)
    if missing:
        return Check("libzmq", Verdict.FAIL, f"{detail}, built without {' and '.join(missing)}", hint)
    return Check("libzmq", Verdict.OK, f"{detail}, with curve and ipc")


def _packages() -> Check:
    """Whether another distribution brings a package of one of our names, which then depends on luck and order.

    That the packages loaded here are our own is known: `import fdn` has checked it, or this would not run.
    """
    owners = importlib.metadata.packages_distributions()
    strangers = {room: sorted({name for name in owners.get(room, []) if name != "fdn-cluster"}) for room in _ROOMS}
    found = [f"{room} is also in {', '.join(names)}" for room, names in strangers.items() if names]
    if found:
        return Check(
            "packages",
            Verdict.FAIL,
            "; ".join(found),
            "pip uninstall that distribution, then reinstall fdn-cluster: both write to the same folder",
        )
    return Check("packages", Verdict.OK, f"{', '.join(_ROOMS)} are fdn's own")


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("file descriptors", Verdict.OK, "no limit")
    highest = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    verdict = Verdict.FAIL if soft < _FDS_FAIL else Verdict.WARN if soft < _FDS_WARN else Verdict.OK
    hint = f"ulimit -n {_FDS_WARN} before starting a node, or LimitNOFILE= in its systemd unit"
    detail = f"at most {soft}" + (f", can be raised to {highest}" if soft != hard else "")
    return Check("file descriptors", verdict, detail, "" if verdict is Verdict.OK else hint)


def _clock() -> Check:
    resolution = time.get_clock_info("monotonic").resolution
    if resolution > 0.001:
        hint = "timers fire late on this machine; choose preset = lan or wan"
        return Check("clock", Verdict.WARN, f"monotonic, in steps of {resolution * 1e3:g} ms", hint)
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Check("clock", Verdict.OK, "monotonic; no boottime here, so time asleep is not seen")
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return Check("clock", Verdict.OK, f"monotonic and boottime; {max(asleep, 0.0):.0f} s asleep since boot")


def _shared_memory(folder: Path) -> Check:
    if not folder.is_dir():
        verdict = Verdict.WARN if sys.platform == "linux" else Verdict.OK
        hint = "mount a tmpfs there" if verdict is Verdict.WARN else ""
        return Check("shared memory", verdict, f"there is no {folder}", hint)
    if not os.access(folder, os.W_OK):
        return Check("shared memory", Verdict.WARN, f"{folder} is not writable", f"chmod 1777 {folder}")
    free = shutil.disk_usage(folder).free
    if free < _SHM_WARN:
        hint = "free some, or give the container more: docker run --shm-size=1g"
        return Check("shared memory", Verdict.WARN, f"{format_size(free)} free in {folder}", hint)
    return Check("shared memory", Verdict.OK, f"{format_size(free)} free in {folder}")


def _loopback(name: str, family: socket.AddressFamily, host: str) -> Check:
    try:
        with (
            socket.create_server((host, 0), family=family) as server,
            socket.create_connection(server.getsockname()[:2], timeout=1.0) as near,
        ):
            far, _ = server.accept()
            with far:
                far.settimeout(1.0)
                near.sendall(b"fdn")
                answer = far.recv(3)
    except OSError as error:
        detail = f"{host} cannot be used: {error.strerror or error}"
        if family == socket.AF_INET6:
            return Check(name, Verdict.WARN, detail, "only IPv4 addresses can be used; that is enough for most")
        return Check(name, Verdict.FAIL, detail, "bring the loopback interface up: ip link set lo up")
    if answer != b"fdn":
        return Check(name, Verdict.FAIL, f"{host} connects, but carries no data", "look for a local firewall")
    return Check(name, Verdict.OK, f"{host} connects and carries data")


def _ports() -> Check:
    """Whether the default ports are free. Taken ones are no fault: a node may be running."""
    base = Endpoint.parse(DEFAULT_TARGET)
    ports = [base.for_channel(channel).port for channel in Channel]
    taken = [port for port in ports if not _is_free(port)]
    name = f"ports {ports[0]}-{ports[-1]}"
    if not taken:
        return Check(name, Verdict.OK, "free on 127.0.0.1")
    if taken == ports:
        return Check(name, Verdict.OK, "in use on 127.0.0.1, as by a node that runs")
    return Check(
        name,
        Verdict.WARN,
        f"in use on 127.0.0.1: {', '.join(map(str, taken))}",
        f"bind to the next free group with bind = {DEFAULT_TARGET}+, or to any with port 0",
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As libzmq does: a port whose last connections are still in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _configuration(env: Mapping[str, str]) -> Iterator[Check]:
    try:
        loaded = load({}, env)
    except Error as error:
        yield Check("configuration", Verdict.FAIL, error.message, error.hint or "correct the value that is named")
        return
    read = ", ".join(map(str, loaded.files)) or "no files"
    given = sum(origin != "default" for origin in loaded.origins.values())
    yield Check(
        "configuration", Verdict.OK, f"{read}; {given} of {len(loaded.origins)} settings given, the rest default"
    )
    if loaded.ignored:
        hint = "correct the name, or unset it"
        yield Check("environment", Verdict.WARN, f"ignored, being no settings: {', '.join(loaded.ignored)}", hint)


def _context(invocation: Invocation) -> Check:
    try:
        path = invocation.context_file()
        if path is None:
            return _no_context(invocation.contexts.current())
        targets = invocation.targets()
    except Error as error:
        return Check("context", Verdict.FAIL, error.message, error.hint or "correct the value that is named")
    failures: list[str] = []
    for target in targets:
        failure = _connect(target, min(invocation.timeout_s, 2.0))
        if not failure:
            return Check("context", Verdict.OK, f"{path.stem}: {target} answers")
        failures.append(f"{target}: {failure}")
    hint = f"start that cluster, or remove {path}"
    return Check("context", Verdict.FAIL, f"{path.stem}: {'; '.join(failures)}", hint)


def _no_context(current: str) -> Check:
    if not current:
        return Check("context", Verdict.OK, "none in use")
    hint = "fdn up starts a cluster and makes a new one"
    return Check("context", Verdict.WARN, f'"{current}" was in use, and its cluster has ended', hint)


def _connect(endpoint: str, timeout_s: float) -> str:
    """Try a TCP connection; what went wrong, or nothing."""
    address = Endpoint.parse(endpoint)
    if address.scheme != "tcp":
        return "only tcp can be tried from here"
    try:
        with socket.create_connection((address.host, address.port), timeout=timeout_s):
            return ""
    except OSError as error:
        return error.strerror or str(error)

"""Where an app begins: a folder with a package, its settings, and tests that pass; and further services for it.

Everything is worked out, and checked for being free, before the first file is written.
"""

import ast
import keyword
import re
import string
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fdn.errors import BadRequest, ConfigError, Conflict

__all__ = ("new_app", "new_service")

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_NAME_CHARACTERS_MAX: Final = 40
# Above 7400, which nodes without an app like to take; room for five nodes each.
_PORT_MIN: Final = 7500
_PORT_GROUPS: Final = 400
_PORTS_EACH: Final = 20
_OURS: Final = frozenset({"fdn", "transports", "topologies", "consensus", "tests"})
_MODULES_OF_AN_APP: Final = frozenset({"app", "contracts", "greeter", "counter"})

_APP: Final[Mapping[str, str]] = {
    "README.md": """# $name

    $$ fdn run $package.app:app

runs one node, on the first free ports from $port; again in another terminal, and the two find each other. Then, in a
third:

    $$ fdn request greeter.greet '"Ada"'
    $$ fdn members
    $$ fdn service ls

While you write it: `fdn run $package.app:app --reload`. The tests: `python -m pytest`
(`pip install pytest`, if it is not there).

| File | What it holds |
|---|---|
| `$package/contracts.py` | what can be called, as Protocols: both sides are checked against them |
| `$package/greeter.py`, `$package/counter.py` | the services |
| `$package/app.py` | the app: what a node of it serves, and does by itself |
| `fdn.toml` | settings of nodes and commands that are started here |
| `tests/` | whole nodes in one process, on a virtual clock |

`fdn new service NAME` adds a service.
""",
    "pyproject.toml": """[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["fdn-cluster"]

[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
packages = ["$package"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]

[tool.mypy]
strict = true
""",
    "fdn.toml": """# Settings of what is started in this folder; flags and FDN_* variables win over them.
cluster = "$name"
bind = "tcp://127.0.0.1:$port+"  # the + means: if taken, the next free group of ports
join = ["tcp://127.0.0.1:$port"]  # the first node finds itself there, and waits for nobody
""",
    "$package/__init__.py": '"""$name."""\n',
    "$package/contracts.py": '''"""What can be called: services implement these, callers give them to `node.proxy`."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


class Greeting(msgspec.Struct):
    """A greeting, and how many there have been of that name."""

    text: str
    count: int


class Greeter(Protocol):
    """The service `greeter`."""

    async def greet(self, name: str) -> Greeting: ...


class Counter(Protocol):
    """The service `counter`."""

    async def add(self, name: str) -> int: ...

    def names(self) -> AsyncIterator[str]: ...
''',
    "$package/greeter.py": '''"""The service `greeter`: it keeps nothing, so any number of nodes may share the work."""

import fdn

from $package.contracts import Counter, Greeter, Greeting


class GreeterService(Greeter):
    """Greets, and asks another service how often."""

    def __init__(self, node: fdn.Node) -> None:
        self._counter = node.proxy(Counter, "counter")

    async def greet(self, name: str) -> Greeting:
        """Greet somebody."""
        if not name:
            raise fdn.BadRequest("nobody to greet", hint="give a name")
        return Greeting(f"Hello, {name}!", await self._counter.add(name))
''',
    "$package/counter.py": '''"""The service `counter`: each node counts for itself, in memory."""

from collections import Counter as Counts
from collections.abc import AsyncIterator

from $package.contracts import Counter


class CounterService(Counter):
    """Counts names."""

    def __init__(self) -> None:
        self._counts: Counts[str] = Counts()

    async def add(self, name: str) -> int:
        """Count a name once more, and return how often that was."""
        self._counts[name] += 1
        return self._counts[name]

    async def names(self) -> AsyncIterator[str]:
        """Every name so far, the most frequent first."""
        for name, _ in self._counts.most_common():
            yield name
''',
    "$package/app.py": '''"""The app: what a node of $name serves, and does by itself."""

import logging

import fdn

from $package.contracts import Counter
from $package.counter import CounterService
from $package.greeter import GreeterService

_log = logging.getLogger(__name__)

app = fdn.App("$name")
app.service("greeter")(GreeterService)
app.service("counter")(CounterService)


@app.every("30s")
async def report(node: fdn.Node) -> None:
    """Publish how many names this node knows."""
    counter = node.proxy(Counter, f"counter@{node.id}")
    known = len([name async for name in counter.names()])
    _log.info("%d names are known here", known)
    await node.publish("$name.known", {"node": node.name, "names": known})
''',
    "tests/test_$package.py": """import fdn
import pytest
from fdn.testing import Cluster, virtual

from $package.app import app
from $package.contracts import Counter, Greeter, Greeting


@virtual
async def test_greets_and_counts() -> None:
    async with Cluster(1, app=app) as cluster:
        greeter = cluster[0].proxy(Greeter, "greeter")
        assert await greeter.greet("Ada") == Greeting("Hello, Ada!", 1)
        assert await greeter.greet("Ada") == Greeting("Hello, Ada!", 2)
        names = cluster[0].proxy(Counter, "counter").names()
        assert [name async for name in names] == ["Ada"]


@virtual
async def test_nobody_is_not_greeted() -> None:
    async with Cluster(1, app=app) as cluster:
        with pytest.raises(fdn.BadRequest, match="nobody to greet"):
            await cluster[0].proxy(Greeter, "greeter").greet("")


@virtual
async def test_every_node_reports() -> None:
    async with Cluster(2, app=app) as cluster:
        known = await cluster[0].subscribe("$name.known")
        await cluster.advance(30)
        nodes = set()
        async for report in known:
            assert isinstance(report, fdn.Event)
            nodes.add(report.payload["node"])
            if len(nodes) == 2:
                break
""",
}

_SERVICE: Final[Mapping[str, str]] = {
    "$package/$module.py": '''"""The service `$name`: what can be called, and what does it."""

from typing import Protocol


class $class_name(Protocol):
    """What can be called as `$name.METHOD`: give it to `node.proxy($class_name, "$name")`."""

    async def echo(self, text: str) -> str: ...


class ${class_name}Service($class_name):
    """Each node has one of its own."""

    async def echo(self, text: str) -> str:
        """Answer with what was sent."""
        return text
''',
    "tests/test_$module.py": """from fdn.testing import Cluster, virtual

$imports


@virtual
async def test_echo() -> None:
    async with Cluster(1, app=app) as cluster:
        $module = cluster[0].proxy($class_name, "$name")
        assert await $module.echo("hello") == "hello"
""",
}


def new_app(name: str, parent: Path) -> list[Path]:
    """Make a folder `name` with an app that runs and whose tests pass.

    Returns:
        The files, below `parent`.

    Raises:
        BadRequest: The name will not do as one of a package.
        Conflict: The folder is there already.
        ConfigError: It cannot be written.
    """
    package = _module(name, _OURS)
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already", hint="choose another name, or delete it")
    return _write(parent, _fill(_APP, Path(name), name=name, package=package, port=str(_port(name))))


def new_service(name: str, folder: Path, package: str = "") -> list[Path]:
    """Add a service to the app in `folder`: a module and a test, and two lines in the app.

    Args:
        name: The service's.
        folder: Holds the package.
        package: The package; empty takes the only one that has an `app.py`.

    Returns:
        The files, below `folder`; the app is among them.

    Raises:
        BadRequest: The name will not do as one of a module.
        ConfigError: There is no app, or more than one, or it cannot be read or written.
        Conflict: There is such a module or test already.
    """
    module = _module(name, _OURS | _MODULES_OF_AN_APP)
    package = package or _only_package(folder)
    app = Path(package, "app.py")
    class_name = "".join(part.capitalize() for part in module.split("_"))
    imported = {f"{package}.app": "app", f"{package}.{module}": class_name}
    imports = "\n".join(f"from {source} import {what}" for source, what in sorted(imported.items()))
    files = _fill(_SERVICE, Path(), name=name, package=package, module=module, class_name=class_name, imports=imports)
    taken = next((path for path in files if (folder / path).exists()), None)
    if taken is not None:
        raise Conflict(f"{folder / taken} is there already", hint="choose another name, or delete it")
    try:
        text = (folder / app).read_text(encoding="utf-8")
        files[app] = _with_service(text, f"{package}.{module}", f"{class_name}Service", name)
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{folder / app} cannot be read: {error}", hint="name the package with --package") from error
    return _write(folder, files)


def _module(name: str, taken: frozenset[str]) -> str:
    """What a package or module of that name is called in Python."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > _NAME_CHARACTERS_MAX:
        raise BadRequest(
            f'"{name}" will not do as a name',
            hint=f"use small letters and digits, with - or _ between, at most {_NAME_CHARACTERS_MAX} characters",
        )
    if keyword.iskeyword(module) or module in taken or module in sys.stdlib_module_names:
        raise BadRequest(
            f'"{name}" is taken: Python, fdn or the app has a module "{module}"', hint="choose another name"
        )
    return module


def _port(name: str) -> int:
    """Where the nodes of an app of that name begin to count: each app keeps its own, and two seldom meet."""
    return _PORT_MIN + zlib.crc32(name.encode()) % _PORT_GROUPS * _PORTS_EACH


def _only_package(folder: Path) -> str:
    found = sorted(path.parent.name for path in folder.glob("*/app.py") if (path.parent / "__init__.py").exists())
    if len(found) != 1:
        what = f"more than one app: {', '.join(found)}" if found else "no package with an app.py"
        raise ConfigError(
            f"{folder} holds {what}", hint="name it with --package" if found else "make one with `fdn new app NAME`"
        )
    return found[0]


def _with_service(source: str, module: str, class_name: str, name: str) -> str:
    """An app's source with one more import and one more service.

    Raises:
        ValueError: There is no `app = ...` in it.
    """
    body = ast.parse(source).body
    assigned = [
        statement
        for statement in body
        if isinstance(statement, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "app" for target in statement.targets)
    ]
    if not assigned:
        raise ValueError("it has no line `app = fdn.App(...)`")
    services = [
        statement
        for statement in body
        if isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("app.service(")
    ]
    lines = source.splitlines()
    # From below, so that the upper place stays where it is.
    lines.insert((services or assigned)[-1].end_lineno or 0, f'app.service("{name}")({class_name})')
    lines.insert(_place_of_import(body, module), f"from {module} import {class_name}")
    return "\n".join(lines) + "\n"


def _place_of_import(body: list[ast.stmt], module: str) -> int:
    """The line before which to import a module: in order among those of its package, else behind all imports."""
    package = module.partition(".")[0]
    imports = [statement for statement in body if isinstance(statement, ast.Import | ast.ImportFrom)]
    siblings = [
        statement
        for statement in imports
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == package
    ]
    earlier = [statement for statement in siblings if (statement.module or "") < module]
    if siblings and not earlier:
        return siblings[0].lineno - 1
    return next((statement.end_lineno or 0 for statement in reversed(earlier or imports)), 0)


def _fill(templates: Mapping[str, str], below: Path, **names: str) -> dict[Path, str]:
    return {
        below / string.Template(path).substitute(names): string.Template(text).substitute(names)
        for path, text in templates.items()
    }


def _write(folder: Path, files: Mapping[Path, str]) -> list[Path]:
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror or error}") from error
    return [*files]

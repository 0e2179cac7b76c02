"""The import guard: are `transports`, `topologies` and `consensus` ours?

The short names follow the layout of the project, and other projects use them too. Whichever stands first on `sys.path`
wins, silently; without this check a stranger's `transports` shows up much later, as an attribute that is not there.
"""

import importlib.util
import os
from typing import Final

ROOMS: Final = ("transports", "topologies", "consensus")


def foreign_rooms() -> dict[str, str]:
    """The rooms that another project's package stands in for.

    Returns:
        Room name to where Python finds it ("nowhere" when it does not). Empty when all three stand beside `fdn`.
    """
    here = _parent(__file__)
    found = {room: _location(room) for room in ROOMS}
    # Compared as written first: resolving links costs a system call for each part of the path.
    return {
        room: location
        for room, location in found.items()
        if location != os.path.join(here, room)
        and os.path.realpath(location) != os.path.realpath(os.path.join(here, room))
    }


def check_rooms() -> None:
    """See to it that the three rooms beside `fdn` are those that Python would import. Imports none of them.

    Raises:
        ImportError: Another package of that name comes first, or a room is missing.
    """
    foreign = foreign_rooms()
    if not foreign:
        return
    here = _parent(__file__)
    facts = "; ".join(f"{room!r} is found at {location}" for room, location in foreign.items())
    raise ImportError(
        f"fdn would import packages that are not its own: {facts}. "
        f"Expected {'them' if len(foreign) > 1 else 'it'} in {here}, beside fdn. "
        "Rename or remove the other package, put it later on sys.path, or give this program a virtual environment of "
        "its own; if nothing else has that name, install fdn-cluster again",
        name=next(iter(foreign)),
        path=next(iter(foreign.values())),
    )


def _location(room: str) -> str:
    """The folder that `import room` would take its package from."""
    try:
        spec = importlib.util.find_spec(room)
    except ValueError:  # something put a bare module object into sys.modules
        return "a module made by hand (it has no __spec__)"
    if spec is None:
        return "nowhere"
    if spec.origin is None or not spec.has_location:  # a folder without __init__.py
        return next(iter(spec.submodule_search_locations or ()), "nowhere") + " (a folder without __init__.py)"
    if spec.submodule_search_locations is None:  # transports.py
        return spec.origin
    return os.path.dirname(spec.origin)


def _parent(file: str) -> str:
    return os.path.dirname(os.path.dirname(file))

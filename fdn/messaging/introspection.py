"""What a node tells of itself on the coordination channel: to `fdn` commands, to other nodes, to any client.

These run on the control plane, so that they are answered while the user's code is stuck. `docs/spec/0001-wire.md`,
section on system requests, lists them.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fdn.errors import BadRequest, ConfigError
from fdn.messaging.directory import OffersDirectory
from fdn.runtime.control_plane import ControlPlane
from fdn.runtime.control_requests import Answer
from fdn.runtime.view import View
from fdn.settings import Settings

__all__ = ("answers",)


def answers(
    control: ControlPlane,
    settings: Settings,
    version: str,
    where: Callable[[], Mapping[str, str]],
    stop: Callable[[], None],
) -> dict[str, Answer]:
    """The system requests of one node, by name.

    Args:
        control: Whose loop they run on.
        settings: The node's.
        version: Of fdn.
        where: The advertised endpoints.
        stop: Begins to stop the node; returns at once.
    """

    def info(payload: Any) -> dict[str, Any]:
        return _describe(control.view(), settings, version, where())

    def join(payload: Any) -> Any:
        if not isinstance(payload, list) or not all(isinstance(seed, str) for seed in payload):
            raise BadRequest("fdn.node.join takes a list of addresses", hint='such as ["tcp://127.0.0.1:7400"]')
        try:
            return control.join(Settings(join=tuple(payload)).join)
        except ConfigError as error:
            raise BadRequest(error.message, hint=error.hint) from error

    def why(payload: Any) -> list[dict[str, Any]]:
        if not isinstance(payload, str):
            raise BadRequest("fdn.node.why takes a node id", hint="`fdn members -o wide` lists them")
        return _evidence(control, payload)

    return {
        "fdn.node.ping": lambda payload: None,
        "fdn.node.info": info,
        "fdn.node.members": lambda payload: list(control.view().members.values()),
        "fdn.node.ways": lambda payload: control.explain_ways(),
        "fdn.node.services": lambda payload: _services(control.view()),
        "fdn.node.stats": lambda payload: dataclasses.asdict(control.stats()),
        "fdn.node.why": why,
        "fdn.node.join": join,
        "fdn.node.leave": lambda payload: stop(),
    }


def _describe(view: View, settings: Settings, version: str, endpoints: Mapping[str, str]) -> dict[str, Any]:
    me = next(member for member in view.members.values() if member.me)
    living = [member for member in view.members.values() if member.status in ("alive", "suspect")]
    return {
        "node": me.node,
        "name": me.name,
        "cluster": settings.cluster,
        "version": version,
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "endpoints": dict(endpoints),
        "preset": settings.pace,
        "members": len(living),
        "reachable": len([member for member in living if member.reachable]),
    }


def _services(view: View) -> list[dict[str, Any]]:
    directory = OffersDirectory()
    directory.on_view(view)
    return [
        {
            "node": view.members[node].name,
            "service": offer.name,
            "methods": offer.methods,
            "version": offer.version,
            "capabilities": offer.capabilities,
            "state": view.members[node].state,
        }
        for node, offers in directory.offers().items()
        for offer in offers
    ]


def _evidence(control: ControlPlane, node: str) -> list[dict[str, Any]]:
    members = control.view().members

    def name(of: str) -> str:
        return members[of].name if of in members else of

    return [
        {
            "age_ms": round(age_s * 1000),
            "status": said.status.value,
            "incarnation": said.incarnation,
            "by": said.by,
            "by_name": name(said.by),
            "reason": said.reason,
            "from": said.from_whom,
            "from_name": name(said.from_whom),
            "confirms": said.confirms,
        }
        for age_s, said in control.why(node)
    ]

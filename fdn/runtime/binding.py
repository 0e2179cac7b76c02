"""Where a node listens: four channels over two planes, on one base port or the next free group."""

from collections.abc import Mapping

from fdn.errors import ConfigError, Conflict
from fdn.runtime.control_links import CONTROL_CHANNELS
from fdn.runtime.control_plane import ControlPlane
from fdn.runtime.data_plane import DATA_CHANNELS, DataPlane
from fdn.runtime.plane_thread import PlaneHost
from fdn.settings import Settings
from transports.channel import Channel
from transports.errors import EndpointInUse, EndpointInvalid

__all__ = ("advertised", "bind_all")

_GROUPS_TRIED_MAX = 64
_PORTS = 1 << 16


async def bind_all(settings: Settings, host: PlaneHost, control: ControlPlane, data: DataPlane) -> dict[str, str]:
    """Bind every channel as `bind` says; returns channel name to endpoint, with real ports.

    Raises:
        Conflict: A port is taken, or with `+` no group of four is free.
        ConfigError: The address cannot be used on this machine.
    """
    bind = settings.bind_address
    base = bind.base.port
    groups = min(_GROUPS_TRIED_MAX, (_PORTS - base) // len(Channel)) if bind.search else 1
    for _ in range(groups):
        try:
            return await _bind_group(bind.endpoints(base), host, control, data)
        except EndpointInUse as error:
            data.unlisten()
            await host.call(control.links.unlisten)
            if not bind.search:
                raise Conflict(
                    f"{error.endpoint} is taken by another process",
                    hint='choose another base port, "tcp://HOST:PORT+" for the next free one, or port 0 for any',
                    endpoint=error.endpoint,
                ) from error
            base += len(Channel)
        except EndpointInvalid as error:
            raise ConfigError(f"cannot listen: {error}", hint="name an address of this machine in `bind`") from error
    raise Conflict(
        f"no four free ports from {bind.base.port} to {base - 1}",
        hint="name another base port with bind, or port 0 for any",
    )


def advertised(bound: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The endpoints that others are told: the bound ones, or those of `advertise`."""
    advertise = settings.advertise_address
    if not advertise:
        return dict(bound)
    if isinstance(advertise, str):
        return {channel: f"tcp://{advertise}:{endpoint.rpartition(':')[2]}" for channel, endpoint in bound.items()}
    return {channel.value: endpoint for channel, endpoint in advertise.items()}


async def _bind_group(
    endpoints: Mapping[Channel, str], host: PlaneHost, control: ControlPlane, data: DataPlane
) -> dict[str, str]:
    def bind_control() -> dict[str, str]:
        return {channel.value: control.links.listen(channel, endpoints[channel]) for channel in CONTROL_CHANNELS}

    bound = await host.call(bind_control)
    return bound | {channel.value: data.listen(channel, endpoints[channel]) for channel in DATA_CHANNELS}

"""What a sender may ask for: the delivery classes, and what goes with them."""

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from fdn.errors import BadRequest
from fdn.runtime.send_options import SendOptions

__all__ = ("DeliveryClass", "Promise", "promise")

DeliveryClass: TypeAlias = Literal["at_most_once", "at_least_once", "effectively_once"]

_CLASSES: Final = get_args(DeliveryClass)
_LABEL_CHARACTERS_MAX: Final = 256


class Promise(msgspec.Struct, frozen=True):  # made for each message: a frozen dataclass costs five times as much
    """What one message asks for beside being sent.

    Attributes:
        identified: It is handed over once, as far as receivers remember.
        key: It stays behind those with the same key; empty for none.
        label: It stays behind its causes with the same label; empty for none.
        confirm: Whoever sends it waits until every receiver has it.
        refuse: A full buffer is an error, and nothing to wait for.
        priority: As in `SendOptions`.
    """

    identified: bool = False
    key: str | bytes = ""
    label: str = ""
    confirm: bool = False
    refuse: bool = False
    priority: int = 0


def promise(delivery: str | None, causal: str | None, confirm: bool, options: SendOptions) -> Promise | None:
    """What the arguments of `publish` and `cast` ask for; None if that is nothing but to be sent.

    Raises:
        BadRequest: They do not fit together.
    """
    if delivery is not None and delivery not in _CLASSES:
        raise BadRequest(f"delivery={delivery!r}", hint=f"expected {', '.join(_CLASSES)}")
    if delivery == "at_most_once":
        if causal is not None or confirm:
            asked = "confirm=True" if confirm else f"causal={causal!r}"
            raise BadRequest(f"{asked} with delivery='at_most_once'", hint="ask for 'at_least_once'")
        return None
    if causal is not None and not 0 < len(causal) <= _LABEL_CHARACTERS_MAX:
        raise BadRequest(
            f"causal={causal[:300]!r}", hint=f"expected a label of 1 to {_LABEL_CHARACTERS_MAX} characters"
        )
    return Promise(
        delivery == "effectively_once", options.key or "", causal or "", confirm, options.refuse, options.priority
    )

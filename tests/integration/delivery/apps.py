"""What the nodes of these tests do: `cluster.start(3, app="tests.integration.delivery.apps:app")`.

What a node takes it writes to a file in the folder where it runs, so that it can be read when the node was killed.
"""

from pathlib import Path
from typing import Any

import msgspec

import fdn

app = fdn.App("delivery")


class Flood(msgspec.Struct):
    """What to publish: numbers from `first`, to `subject`."""

    subject: str
    first: int
    count: int
    delivery: str = "at_least_once"
    keys: int = 0  # so many, by remainder; 0 for none


def note(node: str, what: str, text: str) -> None:
    with Path(f"{node}.{what}").open("a") as file:
        file.write(f"{text}\n")


@app.subscribe("jobs.>", queue="workers")
async def on_job(number: int, context: fdn.Context) -> None:
    note(context.node, "jobs", f"{number} {int(context.redelivered)}")


@app.subscribe("news.>")
async def on_news(number: int, context: fdn.Context) -> None:
    note(context.node, "news", str(number))


@app.service("publisher")
class Publisher:
    def __init__(self, node: fdn.Node) -> None:
        self._node = node

    async def flood(self, flood: Flood) -> int:
        for number in range(flood.first, flood.first + flood.count):
            key = f"k{number % flood.keys}" if flood.keys else None
            await self._node.publish(flood.subject, number, delivery=flood.delivery, key=key)  # type: ignore[call-overload]
        return flood.count

    async def flush(self, seconds: float) -> int:
        return await self._node.flush(seconds)

    async def say(self, subject: str, text: str, causal: str) -> int:
        """At least once, and behind its causes if `causal` is a label."""
        return await self._node.publish(subject, text, delivery="at_least_once", causal=causal or None)

    async def stats(self) -> dict[str, Any]:
        counted = (await self._node.stats()).delivery
        return {"sender": msgspec.to_builtins(counted.sender), "receiver": msgspec.to_builtins(counted.receiver)}


def answering(subject: str, label: str | None) -> None:
    @app.subscribe(subject)
    async def on_talk(text: str, context: fdn.Context, node: fdn.Node) -> None:
        note(context.node, subject, text)
        if text.startswith("question") and context.node == "n2":
            await node.publish(subject, f"answer {text.split()[1]}", delivery="at_least_once", causal=label)


answering("talk.causal", "talk")
answering("talk.plain", None)

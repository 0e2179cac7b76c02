"""Subjects and patterns: the names of events, and who wants them.

A subject is tokens joined by dots: `orders.eu.created`. In a pattern, `*` stands for exactly one token, and `>` at the
end for the rest, at least one. Subjects that begin with `fdn.` are the system's: no wildcard in the first place means
them, so that whoever asks for everything gets what users publish.
"""

import re
from typing import Final, Generic, TypeVar

from fdn.errors import BadRequest, ConfigError

__all__ = ("Patterns", "is_pattern", "valid_pattern", "valid_queue", "valid_subject")

T = TypeVar("T")

_CHARACTERS_MAX: Final = 256
_TOKEN: Final = r"[^\s.*>\x00-\x1f\x7f-\x9f\ud800-\udfff]+"  # lone surrogates have no UTF-8
_SUBJECT: Final = re.compile(rf"{_TOKEN}(\.{_TOKEN})*")
_PATTERN: Final = re.compile(rf"((\*|{_TOKEN})\.)*(\*|>|{_TOKEN})")
_QUEUE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SYSTEM: Final = "fdn"


def valid_subject(subject: str) -> str:
    """`subject`, if users may publish to it.

    Raises:
        BadRequest: It is not a subject, or it is the system's.
    """
    if len(subject) > _CHARACTERS_MAX or not _SUBJECT.fullmatch(subject):
        raise BadRequest(
            f"{subject[: 2 * _CHARACTERS_MAX]!r} is not a subject",
            hint=f"use tokens joined by dots, without spaces, * and >, at most {_CHARACTERS_MAX} characters",
        )
    if _is_system(subject):
        raise BadRequest(f"subject {subject!r} is the system's: it begins with fdn", hint="choose another first token")
    return subject


def valid_pattern(pattern: str) -> str:
    """`pattern`, if users may subscribe to it.

    Raises:
        ConfigError: It is not a pattern, or it is the system's.
    """
    if not is_pattern(pattern):
        raise ConfigError(
            f"{pattern[: 2 * _CHARACTERS_MAX]!r} is not a subject or pattern",
            hint="use tokens joined by dots; * is one token, > at the end is the rest; "
            f"at most {_CHARACTERS_MAX} characters",
        )
    if _is_system(pattern):
        raise ConfigError(f"pattern {pattern!r} is the system's: it begins with fdn", hint="choose another first token")
    return pattern


def valid_queue(queue: str) -> str:
    """`queue`, if a group may have this name; empty is no group.

    Raises:
        ConfigError: It may not.
    """
    if queue and not _QUEUE.fullmatch(queue):
        raise ConfigError(f"queue={queue!r}", hint="use 1 to 100 of A-Z a-z 0-9 . _ -")
    return queue


def is_pattern(pattern: str) -> bool:
    """Whether this is a subject or pattern, be it a user's or the system's."""
    return len(pattern) <= _CHARACTERS_MAX and _PATTERN.fullmatch(pattern) is not None


def _is_system(name: str) -> bool:
    return name.partition(".")[0] == _SYSTEM


class _Branch(Generic[T]):
    """The patterns that have the same tokens up to here."""

    __slots__ = ("any", "ends", "named", "rest")

    def __init__(self) -> None:
        self.named: dict[str, _Branch[T]] = {}  # by the next token
        self.any: _Branch[T] | None = None  # `*` follows
        self.ends: list[T] = []  # values of patterns that end here
        self.rest: list[T] = []  # ... that end with `>` here

    @property
    def empty(self) -> bool:
        return not (self.named or self.any or self.ends or self.rest)


class Patterns(Generic[T]):
    """Values by pattern, found by subject.

    A trie of tokens: the cost of a look-up is that of the patterns that share tokens with the subject, not of all.
    """

    def __init__(self) -> None:
        self._root: _Branch[T] = _Branch()

    def add(self, pattern: str, value: T) -> None:
        """Enter a value under a pattern, which must be one (`is_pattern`)."""
        branch = self._root
        *tokens, last = pattern.split(".")
        for token in tokens if last == ">" else [*tokens, last]:
            if token == "*":
                branch.any = branch.any or _Branch()
                branch = branch.any
            else:
                branch = branch.named.setdefault(token, _Branch())
        (branch.rest if last == ">" else branch.ends).append(value)

    def discard(self, pattern: str, value: T) -> None:
        """Take out a value that was entered under this pattern; nothing if it was not."""
        path: list[tuple[_Branch[T], str]] = []
        branch = self._root
        *tokens, last = pattern.split(".")
        for token in tokens if last == ">" else [*tokens, last]:
            below = branch.any if token == "*" else branch.named.get(token)
            if below is None:
                return
            path.append((branch, token))
            branch = below
        values = branch.rest if last == ">" else branch.ends
        if value not in values:
            return
        values.remove(value)
        for above, token in reversed(path):  # or subjects that come and go would fill the memory
            below = above.any if token == "*" else above.named[token]
            if below is None or not below.empty:
                return
            if token == "*":
                above.any = None
            else:
                del above.named[token]

    def matching(self, subject: str) -> list[T]:
        """The values of all patterns that match; one for each time that it was entered."""
        found: list[T] = []
        reached = [self._root]
        wild = not _is_system(subject)
        for token in subject.split("."):
            below: list[_Branch[T]] = []
            for branch in reached:
                named = branch.named.get(token)
                if named is not None:
                    below.append(named)
                if wild:
                    found += branch.rest
                    if branch.any is not None:
                        below.append(branch.any)
            if not below:
                return found
            reached, wild = below, True
        for branch in reached:
            found += branch.ends
        return found

"""The `fdn` command. Each command is a module that parses, calls one function and prints; `fdn.cli.root` finds it."""

from fdn.cli.root import main

__all__ = ("main",)

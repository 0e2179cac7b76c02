"""Asking before something is done that cannot be undone."""

import sys

import click

__all__ = ("confirm",)


def confirm(question: str, yes: bool) -> None:
    """Return if the person agrees, or has said --yes.

    Raises:
        click.UsageError: There is nobody to ask.
        click.Abort: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: say --yes if you mean it")
    click.confirm(question, abort=True, err=True)

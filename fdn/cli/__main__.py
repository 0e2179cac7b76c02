"""`python -m fdn.cli` is the `fdn` command: how it starts further processes of itself, wherever it is installed."""

from fdn.cli.root import main

main()

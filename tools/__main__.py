"""Entry: `python3 -m tools VERB` in the root of the checkout, or `python3 PATH/tools VERB` from anywhere."""

# Only what Python 3.6 can parse: this file is the one that must run far enough to say that it cannot.
import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  (the whole point of the file)
    sys.exit(
        f"tools: fdn needs Python 3.11 or newer, and this is {sys.version.split()[0]} ({sys.executable}). "
        "Run it with a newer one, for example: python3.11 -m tools"
    )

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from tools.door import main

sys.exit(main(sys.argv[1:]))

"""The one door for chores: `python3 -m tools VERB`. Runs on a bare Python, with nothing installed."""

"""Our own suite uses what users get: the fixture `cluster`, from `fdn.testing`."""

pytest_plugins = ["fdn.testing.plugin"]

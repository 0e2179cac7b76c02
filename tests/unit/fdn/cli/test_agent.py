from fdn.cli.agent import command
from fdn.cli.node import run


def test_it_is_node_run_by_another_name() -> None:
    assert command.callback is run.callback
    assert [parameter.name for parameter in command.params] == [parameter.name for parameter in run.params]

import asyncio
import os
import signal

import pytest

from fdn.local.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_and_the_second_signal(number: signal.Signals):
    former = signal.getsignal(number)

    async def main() -> None:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), number)
            await interrupt.first.wait()
            assert not interrupt.second.is_set()
            os.kill(os.getpid(), number)
            await interrupt.second.wait()

    try:
        asyncio.run(asyncio.wait_for(main(), 10))
        assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    finally:
        signal.signal(number, former)

import asyncio

import zmq

from tests.unit.transports.harness import Log
from transports.channel import Channel
from transports.limits import Limits
from transports.zmq.monitor import Monitor
from transports.zmq.reactor import Reactor


def test_what_becomes_of_a_connection_is_told_in_order():
    async def body() -> None:
        events = Log[int]()
        reactor = Reactor(asyncio.get_running_loop(), Limits())
        with zmq.Context() as context:
            router = context.socket(zmq.ROUTER)
            router.bind("tcp://127.0.0.1:0")
            dealer = context.socket(zmq.DEALER)
            dealer.set(zmq.RECONNECT_IVL, -1)
            monitor = Monitor(reactor, dealer, Channel.DATA, lambda event, value: events(event))
            dealer.connect(router.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
            await events.until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in events.entries)
            router.close(0)
            await events.until(lambda: zmq.EVENT_DISCONNECTED in events.entries)
            monitor.close()
            monitor.close()
            dealer.close(0)
        assert events.entries[:3] == [zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED]

    asyncio.run(body())

import asyncio

import zmq

from transports.channel import Channel
from transports.limits import Limits
from transports.zmq.monitor import Monitor
from transports.zmq.reactor import Reactor


def test_what_becomes_of_a_connection_is_told_in_order():
    async def body() -> None:
        events: list[int] = []
        reactor = Reactor(asyncio.get_running_loop(), Limits())
        with zmq.Context() as context:
            router = context.socket(zmq.ROUTER)
            router.bind("tcp://127.0.0.1:0")
            dealer = context.socket(zmq.DEALER)
            dealer.set(zmq.RECONNECT_IVL, -1)
            monitor = Monitor(reactor, dealer, Channel.DATA, lambda event, value: events.append(event))
            dealer.connect(router.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
            async with asyncio.timeout(20):
                while zmq.EVENT_HANDSHAKE_SUCCEEDED not in events:
                    await asyncio.sleep(0)
                router.close(0)
                while zmq.EVENT_DISCONNECTED not in events:
                    await asyncio.sleep(0)
            monitor.close()
            monitor.close()
            dealer.close(0)
        assert events[:3] == [zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED]

    asyncio.run(body())

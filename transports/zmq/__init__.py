"""The ZeroMQ transport. Nothing else in the house imports `zmq`."""

from transports.zmq.transport import ZmqTransport

__all__ = ("ZmqTransport",)

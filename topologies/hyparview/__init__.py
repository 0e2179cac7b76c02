"""HyParView: a few neighbours each, among thousands. Start with `topologies.hyparview.hyparview`."""

from topologies.hyparview.hyparview import HyParView
from topologies.hyparview.interface import HyParViewStats
from topologies.hyparview.messages import Message, Peer, decode, encode
from topologies.hyparview.settings import HyParViewSettings

__all__ = ("HyParView", "HyParViewSettings", "HyParViewStats", "Message", "Peer", "decode", "encode")

from topologies.identity import NodeId
from topologies.plumtree.messages import SHARED, MessageId
from topologies.plumtree.store import Store, Stored


def message(number):
    return MessageId(NodeId("r"), 1, number)


def stored(size):
    return Stored(bytes(size), 1, None, SHARED)


def test_past_the_count_the_oldest_goes():
    store = Store(count_max=2, bytes_max=1000)
    for number in (1, 2, 3):
        store.put(message(number), stored(1))
    assert store.get(message(1)) is None
    assert store.get(message(3)) is not None
    assert len(store) == 2


def test_past_the_bytes_as_many_go_as_must():
    store = Store(count_max=100, bytes_max=100)
    for number in range(10):
        store.put(message(number), stored(10))
    assert len(store) == 10
    store.put(message(10), stored(95))
    assert len(store) == 1
    for number in range(20, 24):
        store.put(message(number), stored(1))
    assert len(store) == 5

import math

from topologies.client_server.guests import Guests
from topologies.client_server.settings import ClientServerSettings
from topologies.identity import NodeId

A, B, C = (NodeId(name) for name in "abc")


def test_there_is_room_for_so_many_and_for_those_who_are_in():
    guests = Guests(ClientServerSettings(clients_max=2))
    assert [guests.let_in(client, 1, 0.0) for client in (A, B, C, A)] == [True, True, False, True]
    assert list(guests) == [A, B]
    assert len(guests) == 2
    assert C not in guests


def test_only_the_present_stay_can_be_left():
    guests = Guests(ClientServerSettings())
    guests.let_in(A, 1, 0.0)
    guests.let_in(A, 2, 0.0)
    assert not guests.left(A, 1)
    assert guests.left(A, 2)
    assert not guests.left(A, 2)
    assert guests.remove(A) is None


def test_who_renews_stays():
    guests = Guests(ClientServerSettings(refresh_s=1.0))
    guests.let_in(A, 1, 0.0)
    guests.let_in(B, 5, 0.0)
    guests.let_in(A, 1, 2.0)
    assert guests.next_deadline() == 3.0
    assert guests.silent(3.0) == [B]
    assert guests.remove(B) == 5
    assert guests.next_deadline() == 5.0
    guests.remove(A)
    assert guests.next_deadline() == math.inf

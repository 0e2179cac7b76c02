import consensus.storage
from consensus.storage import StorageError


def test_whoever_catches_the_base_catches_all():
    kinds = [value for value in vars(consensus.storage).values() if isinstance(value, type)]
    errors = [kind for kind in kinds if issubclass(kind, Exception)]
    assert len(errors) == 5
    assert all(issubclass(kind, StorageError) for kind in errors)

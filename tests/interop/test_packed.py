"""Compressed batches as docs/spec/0001-wire.md, section 4.14, has them."""

import json
from pathlib import Path
from typing import Any

import pytest

from transports.errors import MalformedBatch
from transports.packing import unpack

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
FRAME_BYTES_MAX = 1 << 24


@pytest.mark.parametrize("vector", VECTORS["packed"], ids=lambda vector: vector["name"])
def test_a_packed_batch_is_read(vector: dict[str, str]):
    assert unpack(bytes.fromhex(vector["hex"]), FRAME_BYTES_MAX).hex() == vector["batch"]


@pytest.mark.parametrize("vector", VECTORS["packed_refused"], ids=lambda vector: vector["name"])
def test_what_is_not_one_is_refused(vector: dict[str, str]):
    with pytest.raises(MalformedBatch):
        unpack(bytes.fromhex(vector["hex"]), FRAME_BYTES_MAX)

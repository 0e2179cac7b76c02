import logging

import pytest

from tests.unit.transports.harness import Inbox, cast
from transports.intake import Intake
from transports.limits import Limits
from transports.wire.batch import encode_batch

FRAME = encode_batch([cast(1), cast(2)])


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_a_batch_is_counted_and_handed_up_with_its_attachments_and_key(inbox: Inbox):
    intake = Intake("here", inbox, Limits())
    attachments = [memoryview(b"abc"), memoryview(b"")]
    intake.take(b"peer", FRAME, attachments, key=b"k" * 32)
    [batch] = inbox.entries
    assert (batch.source, batch.size, batch.key) == (b"peer", len(FRAME) + 3, b"k" * 32)
    assert [bytes(attachment) for attachment in batch.attachments] == [b"abc", b""]
    assert (intake.batches, intake.messages, intake.bytes, intake.malformed) == (1, 2, len(FRAME) + 3, 0)


def test_what_is_no_batch_is_counted_and_dropped(inbox: Inbox):
    intake = Intake("here", inbox, Limits(attachments_max=2))
    intake.take(b"", b"\x02nonsense")
    intake.take(b"", FRAME, [memoryview(b"")] * 3)
    intake.take(b"", b"\x01\x92" + FRAME[2:-1] + b"\xc1")
    assert inbox.entries == []
    assert (intake.malformed, intake.batches) == (3, 0)


def test_a_frame_beyond_the_limit_is_counted_apart(inbox: Inbox):
    intake = Intake("here", inbox, Limits(frame_bytes_max=1 << 18))
    intake.take(b"", bytes(1 << 19))
    assert (intake.oversized, intake.malformed) == (1, 0)


def test_a_flood_of_garbage_is_not_a_flood_of_log_lines(inbox: Inbox, caplog: pytest.LogCaptureFixture):
    intake = Intake("tcp://here:1", inbox, Limits())
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            intake.take(b"", b"garbage")
    assert len(caplog.records) == 10
    assert "tcp://here:1" in caplog.text

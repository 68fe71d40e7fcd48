"""What is written in one call and what at once."""

from __future__ import annotations

import pytest

from deploykit.serving.joined import Joined

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Transport:
    """Notes what reaches the connection."""

    def __init__(self):
        self.calls = []

    def write(self, data):
        self.calls.append(data)

    def writelines(self, parts):
        self.calls.append(b"".join(parts))

    def close(self):
        self.calls.append("closed")

    def is_closing(self):
        return False

    pause_reading = resume_reading = is_closing


@pytest.fixture
def joined():
    joined = Joined(Transport())
    joined.calls = joined._transport.calls
    return joined


def test_a_head_goes_with_its_body_in_one_call(joined):
    joined.write(HEAD)
    assert joined.calls == []
    joined.write(b"ok")
    joined.write(b"more")
    assert joined.calls == [HEAD + b"ok", b"more"]


def test_a_head_without_a_body_is_written_when_the_response_is_complete_or_the_connection_ends(joined):
    joined.write(HEAD)
    joined.flush()
    joined.flush()
    joined.write(HEAD)
    joined.close()
    assert joined.calls == [HEAD, HEAD, "closed"]


def test_what_is_no_head_of_an_answer_waits_for_nothing(joined):
    for data in (b"", b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"ok", b"body\r\n\r\n"):
        joined.write(data)
        assert joined.calls.pop() == data


def test_two_heads_are_both_written(joined):
    joined.write(HEAD)
    joined.write(HEAD)  # a body may look like anything
    assert joined.calls == [HEAD * 2]


def test_everything_else_is_the_transports_own(joined):
    assert joined.is_closing() is False
    with pytest.raises(AttributeError):
        joined.nothing  # noqa: B018

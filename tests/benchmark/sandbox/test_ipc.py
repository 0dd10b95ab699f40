"""Messages between two processes, of which one may say anything."""

import json
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.benchmark.sandbox.ipc import (
    HEADER_LIMIT,
    Channel,
    InvalidMessage,
    Message,
    inherited,
    pair,
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a channel."""
    ours, theirs = pair(payload_limit=1000)
    with ours.socket, theirs:
        yield ours, Channel(theirs, 1 << 30)


def raw(kind: object = "x", fields: object = None, size: object = 0) -> bytes:
    header = json.dumps({"kind": kind, "fields": fields or {}, "size": size}).encode()
    return len(header).to_bytes(4, "big") + header


def test_what_is_said_is_heard(ends: tuple[Channel, Channel]) -> None:
    """Messages come in order, with what they say and carry."""
    ours, theirs = ends
    theirs.send("stage", b"\0\1\2", name="a", count=3)
    theirs.send("alive")
    assert ours.receive() == Message("stage", {"name": "a", "count": 3}, b"\0\1\2")
    assert ours.receive() == Message("alive", {}, b"")


def test_nothing_yet(ends: tuple[Channel, Channel]) -> None:
    """A message that has not come to its end is none yet, and is not lost."""
    ours, theirs = ends
    whole = raw(size=3) + b"abc"
    theirs.socket.sendall(whole[:-1])
    assert ours.receive(0.01) is None
    theirs.socket.sendall(whole[-1:])
    assert ours.receive(0.01) == Message("x", {}, b"abc")


@pytest.mark.parametrize("rest", [b"", raw(size=9) + b"cut"], ids=["closed", "cut"])
def test_the_end(ends: tuple[Channel, Channel], rest: bytes) -> None:
    """Where nothing more will come, it is said, whatever came last."""
    ours, theirs = ends
    theirs.socket.sendall(rest)
    theirs.socket.close()
    with pytest.raises(EOFError):
        ours.receive()


@pytest.mark.parametrize(
    "data",
    [
        (HEADER_LIMIT + 1).to_bytes(4, "big"),
        b"\0\0\0\x02{]",
        b"\0\0\0\x02[]",
        raw(kind=3),
        raw(fields=[1]),
        raw(size=-1),
        raw(size=True),
        raw(size=1001),
        b"\0\0\xff\xf0" + b"[" * 0xFFF0,
    ],
    ids=["long", "no JSON", "no object", "kind", "fields", "negative", "bool", "large", "nested"],
)
def test_what_is_no_message(ends: tuple[Channel, Channel], data: bytes) -> None:
    """It is refused as soon as its header is there, before anything is taken that it carries."""
    ours, theirs = ends
    theirs.socket.sendall(data)
    with pytest.raises(InvalidMessage):
        ours.receive()


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes is a message, none yet, the end, or garbled, and nothing else."""
    ours, theirs = pair(payload_limit=100)
    with ours.socket, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((EOFError, InvalidMessage)):
            while True:
                assert ours.receive() is not None


def test_an_end_is_not_handed_on() -> None:
    """What another process starts does not inherit the channel."""
    ours, theirs = pair(payload_limit=10)
    number = theirs.detach()
    with ours.socket, inherited(number, 10).socket:
        assert not os.get_inheritable(number)

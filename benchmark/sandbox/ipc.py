"""Messages between the harness and the sandbox: JSON fields and bytes over a socket pair.

Everything that the other side sends is data: its size is bounded, and nothing in it is executed.
`multiprocessing.connection` is not used: its `recv_bytes` blocks until a message is complete and
its `send_bytes` until it is read, so that a hostile sandbox could stop the heartbeat and the time
limits of the harness.
"""

import json
import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

HEADER_LIMIT = 1 << 16
"""The most bytes of a message besides its payload."""

_CHUNK = 1 << 20


class InvalidMessage(Exception):
    """The received bytes are not a message, or the message exceeds a limit."""


@dataclass(frozen=True)
class Message:
    """A kind, JSON fields, and a payload of bytes."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


@dataclass
class Channel:
    """One end of a socket pair; it accepts payloads of at most `payload_limit` bytes."""

    socket: socket.socket
    payload_limit: int
    _received: bytearray = field(default_factory=bytearray)

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Send a message. Raises OSError if the other side does not read any more."""
        header = {"kind": kind, "fields": fields, "size": len(payload)}
        data = json.dumps(header).encode()
        self.socket.sendall(len(data).to_bytes(4, "big") + data)
        self.socket.sendall(payload)

    def receive(self, seconds: float | None = None) -> Message | None:
        """Return the next message, or None if it is not complete within `seconds`.

        An incomplete message is kept for the next call. Raises EOFError if the other side has
        closed its end, and InvalidMessage.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while (message := self._take_message()) is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            # the timeout of the socket is for sending, so `recv` must not be the call that waits
            if not select.select([self.socket], [], [], left)[0]:
                return None
            self._read()
        return message

    def _read(self) -> None:
        try:
            data = self.socket.recv(_CHUNK)
        except ConnectionResetError:
            # a process that dies with unread messages resets the connection
            data = b""
        if not data:
            raise EOFError
        self._received += data

    def _take_message(self) -> Message | None:
        """Remove and return the first message if all of it has been received."""
        if len(self._received) < 4:
            return None
        start = 4 + int.from_bytes(self._received[:4], "big")
        # both limits are checked before anything is waited for, so that memory stays bounded
        if start > 4 + HEADER_LIMIT:
            raise InvalidMessage(f"a header of {start - 4} bytes; at most {HEADER_LIMIT} are read")
        if len(self._received) < start:
            return None
        kind, fields, size = _parse_header(bytes(self._received[4:start]))
        if size > self.payload_limit:
            raise InvalidMessage(
                f"a message that carries {size} bytes; at most {self.payload_limit} are taken"
            )
        if len(self._received) < start + size:
            return None
        payload = bytes(self._received[start : start + size])
        del self._received[: start + size]
        return Message(kind, fields, payload)


def _parse_header(data: bytes) -> tuple[str, dict[str, Any], int]:
    try:
        plain = json.loads(data)
        kind, fields, size = plain["kind"], plain["fields"], plain["size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # RecursionError is what deeply nested JSON raises
        raise InvalidMessage("the bytes are no message") from error
    # `type` and not isinstance, because True is an int too
    valid = isinstance(kind, str) and isinstance(fields, dict) and type(size) is int and size >= 0
    if not valid:
        raise InvalidMessage("the bytes are no message")
    return kind, fields, size


def pair(payload_limit: int) -> tuple[Channel, socket.socket]:
    """Return our end of a new channel, and the socket of the other end."""
    ours, theirs = socket.socketpair()
    return Channel(ours, payload_limit), theirs


def inherited(descriptor: int, payload_limit: int) -> Channel:
    """Return the channel with this inherited descriptor; child processes do not inherit it."""
    os.set_inheritable(descriptor, False)
    return Channel(socket.socket(fileno=descriptor), payload_limit)

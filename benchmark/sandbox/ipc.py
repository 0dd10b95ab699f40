"""Messages between a process that searches and the one that has it searched: JSON and bytes.

Whatever comes from the other side is data: it is bounded, and nothing in it is executed.
"""

import json
import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

HEADER = 1 << 16
"""The most bytes of what a message says, besides what it carries."""

_CHUNK = 1 << 20


class Garbled(Exception):
    """What came is no message, or a larger one than was agreed."""


@dataclass(frozen=True)
class Message:
    """What it is, what it says about that, and the bytes that it carries."""

    kind: str
    says: dict[str, Any] = field(default_factory=dict)
    carries: bytes = b""


@dataclass
class Channel:
    """One end of a socket pair; a message carries at most `most` bytes to here."""

    socket: socket.socket
    most: int
    _heard: bytearray = field(default_factory=bytearray)

    def send(self, kind: str, carries: bytes = b"", **says: Any) -> None:
        """Say something. Raises OSError where nobody listens any more."""
        header = json.dumps({"kind": kind, "says": says, "size": len(carries)}).encode()
        self.socket.sendall(len(header).to_bytes(4, "big") + header)
        self.socket.sendall(carries)

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message, None where it does not come whole within `seconds`.

        Raises EOFError where nothing more will come, and Garbled.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while (message := self._whole()) is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self.socket], [], [], left)[0]:
                return None
            self._read()
        return message

    def _read(self) -> None:
        try:
            came = self.socket.recv(_CHUNK)
        except ConnectionResetError:
            came = b""
        if not came:
            raise EOFError
        self._heard += came

    def _whole(self) -> Message | None:
        """Take the first message from what was heard, once it is there to its end."""
        if len(self._heard) < 4:
            return None
        start = 4 + int.from_bytes(self._heard[:4], "big")
        if start > 4 + HEADER:
            raise Garbled(f"a message of {start - 4} bytes; at most {HEADER} are read")
        if len(self._heard) < start:
            return None
        kind, says, size = _header(bytes(self._heard[4:start]))
        if size > self.most:
            raise Garbled(f"a message that carries {size} bytes; at most {self.most} are taken")
        if len(self._heard) < start + size:
            return None
        carries = bytes(self._heard[start : start + size])
        del self._heard[: start + size]
        return Message(kind, says, carries)


def _header(data: bytes) -> tuple[str, dict[str, Any], int]:
    try:
        plain = json.loads(data)
        kind, says, size = plain["kind"], plain["says"], plain["size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Garbled("what came is no message") from error
    if not (isinstance(kind, str) and isinstance(says, dict) and type(size) is int and size >= 0):
        raise Garbled("what came is no message")
    return kind, says, size


def pair(most: int) -> tuple[Channel, socket.socket]:
    """Our end of a new channel, and the socket of the other end."""
    ours, theirs = socket.socketpair()
    return Channel(ours, most), theirs


def opened(descriptor: int, most: int) -> Channel:
    """The end of a channel that was inherited under this number; children do not inherit it."""
    os.set_inheritable(descriptor, False)
    return Channel(socket.socket(fileno=descriptor), most)

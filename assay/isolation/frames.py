"""Python values over a stream socket, each with its length in front."""

import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<Q")


def pack(value: Any) -> bytes:
    """A value as bytes for the stream. Raises whatever pickle raises for values that it does not know."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Reads the values of a stream as its bytes come in."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream, self._buffer = stream, bytearray()
        self.ended = False
        """The other side has closed, or is gone."""

    def fetch(self, flags: int = 0) -> None:
        """One read from the socket; with MSG_DONTWAIT an empty socket is no error."""
        try:
            data = self._stream.recv(1 << 20, flags)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.ended = not data
        self._buffer += data

    def pending(self) -> list[Any]:
        """Values that have come in completely."""
        values = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < _LENGTH.size + length:
                break
            values.append(pickle.loads(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])))
            del self._buffer[: _LENGTH.size + length]
        return values

"""Python values over a stream socket, each with its length in front.

A pickle can call whatever can be imported, and the code that a worker runs may write to the worker's stream. So a reader makes plain data
and nothing else, but for the classes that it was told to expect.
"""

import io
import pickle
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_LENGTH = struct.Struct("<Q")
GARBLED = object()
"""Stands for what could not be read. Nothing that follows in the stream is read either."""


def pack(value: Any) -> bytes:
    """A value as bytes for the stream. Raises whatever pickle raises for values that it does not know."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Reads the values of a stream as its bytes come in: plain data, and instances of `classes`, each of at most `limit` bytes."""

    def __init__(self, stream: socket.socket, classes: Sequence[type] = (), limit: int = sys.maxsize) -> None:
        self._stream, self._buffer, self._garbled, self._limit = stream, bytearray(), False, limit
        self._classes = {(one.__module__, one.__qualname__): one for one in classes}
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
        if not self._garbled:
            self._buffer += data

    def pending(self) -> list[Any]:
        """Values that have come in completely; GARBLED is the last one that ever comes."""
        values = []
        while len(self._buffer) >= _LENGTH.size and not self._garbled:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length <= self._limit and len(self._buffer) < _LENGTH.size + length:
                break
            try:
                if length > self._limit:
                    raise pickle.UnpicklingError(f"a value of {length} bytes")
                values.append(_Plain(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]), self._classes).load())
                del self._buffer[: _LENGTH.size + length]
            except Exception:  # pickle raises many kinds on bytes that are no pickle
                values.append(GARBLED)
                self._garbled = True
                self._buffer.clear()
        return values


class _Plain(pickle.Unpickler):
    def __init__(self, data: bytes, classes: Mapping[tuple[str, str], type]) -> None:
        super().__init__(io.BytesIO(data))
        self._classes = classes

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self._classes:
            raise pickle.UnpicklingError(f"{module}.{name} is not expected")
        return self._classes[module, name]

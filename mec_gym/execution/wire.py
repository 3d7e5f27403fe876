"""What the two sides of an execution say to each other: a fixed header and raw tensors.

A message is a header of 28 bytes, one descriptor per tensor, and the contents of the tensors. There
are no pickles, and nothing that is received is run. Every size is checked before memory is taken.

    header      magic "MECX", version, kind, 0, number, bytes of descriptors, bytes of contents,
                CRC-32 of all that precedes it and of the descriptors; big endian
    descriptor  type, number of axes, then the length of each axis
    contents    of one tensor after the other, little endian
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch

MAGIC = b"MECX"
VERSION = 3
LARGEST = 1 << 30
"""The largest contents of a message, byte."""
LONGEST = 1 << 16
"""The most bytes of descriptors."""

MOST_AXES = 16
"""The most axes of a tensor."""

_HEADER = struct.Struct("!4sHBBIIQ")
_CHECK = struct.Struct("!I")
HEADER_BYTES = _HEADER.size + _CHECK.size
_AXIS = struct.Struct("!Q")

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
)
"""The types of tensors that can be sent; a type's code is its place."""
_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1  # device -> edge: digest of the network, settings
    READY = 2  # edge -> device: what was asked for is prepared
    SPLIT = 3  # device -> edge: a partition that frames will have
    FRAME = 4  # device -> edge: the tensors of a frame that cross
    ANSWER = 5  # edge -> device: how long it took, and the answer
    PROBE = 6  # device -> edge: nothing to do but to answer
    TIMES = 7  # device -> edge: asks how long each layer takes there
    REFUSAL = 8  # either way: what is wrong, as text


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message.

    Attributes:
        kind: What it is.
        number: The number of the frame or of the partition that it is about, in [0, 2**32).
        tensors: What it brings.
    """

    kind: Kind
    number: int = 0
    tensors: tuple[torch.Tensor, ...] = ()


class Ended(ConnectionError):
    """The other side ended the connection between two messages."""


def encode(message: Message) -> list[memoryview]:
    """Return a message as bytes; contents of contiguous tensors are not copied.

    Raises:
        ValueError: A tensor has a type that cannot be sent, or the message is too large.
    """
    descriptors = bytearray()
    contents: list[memoryview] = []
    for tensor in message.tensors:
        if tensor.dtype not in _CODES:
            raise ValueError(f"tensors must have one of {_names()}, got {tensor.dtype}")
        descriptors += bytes([_CODES[tensor.dtype], tensor.dim()])
        for length in tensor.shape:
            descriptors += _AXIS.pack(length)
        contents.append(_bytes_of(tensor.detach().contiguous()))
    size = sum(len(one) for one in contents)
    if size > LARGEST or len(descriptors) > LONGEST:
        raise ValueError(
            f"a message must have at most {LARGEST} bytes of contents and {LONGEST} of "
            f"descriptors, got {size} and {len(descriptors)}"
        )
    header = _HEADER.pack(MAGIC, VERSION, message.kind, 0, message.number, len(descriptors), size)
    check = _CHECK.pack(zlib.crc32(descriptors, zlib.crc32(header)))
    return [memoryview(header + check + bytes(descriptors)), *contents]


def size_of(message: Message) -> int:
    """Return how many bytes a message has."""
    return sum(len(part) for part in encode(message))


def decode(read_into: Callable[[memoryview], None]) -> Message:
    """Read one message.

    Args:
        read_into: Fills a buffer with the next bytes, or raises an error.

    Raises:
        ValueError: What comes is no message, or one of another version, or one that is too large.
    """
    head = bytearray(HEADER_BYTES)
    read_into(memoryview(head))
    magic, version, code, zero, number, length, size = _HEADER.unpack_from(head)
    if magic != MAGIC:
        raise ValueError(f"the other side does not speak this protocol, it sent {bytes(magic)!r}")
    if version != VERSION:
        raise ValueError(
            f"the other side must have version {VERSION} of the protocol, it has {version}"
        )
    if length > LONGEST or size > LARGEST:
        raise ValueError(
            f"a message must have at most {LARGEST} bytes of contents and {LONGEST} of "
            f"descriptors, the other side announces {size} and {length}"
        )
    descriptors = bytearray(length)
    read_into(memoryview(descriptors))
    (check,) = _CHECK.unpack_from(head, _HEADER.size)
    if check != zlib.crc32(descriptors, zlib.crc32(head[: _HEADER.size])):
        raise ValueError("a message of the other side is damaged: its checksum differs")
    if zero or code not in list(Kind):
        raise ValueError(f"a message must be of a known kind, the other side sent {code}, {zero}")
    shapes = _shapes(descriptors)
    # In whole numbers, which do not overflow: memory is taken only for what was announced.
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes)
    if needed != size or any(length > LARGEST for shape, _ in shapes for length in shape):
        raise ValueError(
            f"a message's contents must be as large as its tensors, {needed} bytes, the other "
            f"side announces {size}"
        )
    tensors = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes)
    for tensor in tensors:
        read_into(_bytes_of(tensor))
    return Message(Kind(code), number, tensors)


def _shapes(descriptors: bytes | bytearray) -> list[tuple[tuple[int, ...], torch.dtype]]:
    found, place = [], 0
    while place < len(descriptors):
        if place + 2 > len(descriptors):
            raise ValueError("a message's descriptors must be whole, they end within one")
        code, axes = descriptors[place], descriptors[place + 1]
        end = place + 2 + axes * _AXIS.size
        if code >= len(DTYPES) or axes > MOST_AXES or end > len(descriptors):
            raise ValueError(
                f"a tensor must have a type below {len(DTYPES)} and at most {MOST_AXES} axes, the "
                f"other side sent type {code} and {axes} axes"
            )
        shape = tuple(one for (one,) in _AXIS.iter_unpack(descriptors[place + 2 : end]))
        found.append((shape, DTYPES[code]))
        place = end
    return found


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    if sys.byteorder != "little":
        raise ValueError("tensors are sent as a little-endian machine has them; this is none")
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def _names() -> str:
    return ", ".join(str(dtype) for dtype in DTYPES)


def text_message(kind: Kind, text: str, number: int = 0) -> Message:
    """Return a message that brings a text."""
    content = bytearray(text.encode()) or bytearray(b" ")
    return Message(kind, number, (torch.frombuffer(content, dtype=torch.uint8),))


def text_of(message: Message) -> str:
    """Return the text that a message brings, in one line that can be printed."""
    if len(message.tensors) != 1 or message.tensors[0].dtype != torch.uint8:
        return "(no text)"
    text = bytes(_bytes_of(message.tensors[0])).decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def send(connection: socket.socket, parts: Sequence[memoryview]) -> None:
    """Send an encoded message at once.

    Raises:
        OSError: The other side is gone.
    """
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket) -> Message:
    """Wait for one message.

    Raises:
        Ended: The other side ended the connection, and no message is left.
        ValueError: What comes is no message, or the connection ends within one.
        OSError: The connection broke, or nothing came in time.
    """
    begun = False

    def read_into(buffer: memoryview) -> None:
        nonlocal begun
        while buffer:
            count = connection.recv_into(buffer)
            if not count and not begun:
                raise Ended("the other side ended the connection")
            if not count:
                raise ValueError(
                    f"the other side ended the connection within a message, {len(buffer)} bytes "
                    "are missing"
                )
            begun = True
            buffer = buffer[count:]

    return decode(read_into)

"""Messages come back as they were sent, and nothing else is taken for one."""

import math
import socket
import struct
import threading
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.execution.wire import (
    DTYPES,
    HEADER_BYTES,
    LARGEST,
    VERSION,
    Ended,
    Kind,
    Message,
    decode,
    encode,
    receive,
    send,
    text_message,
    text_of,
)


def reader(content):
    view = memoryview(content)

    def read_into(buffer):
        nonlocal view
        if len(view) < len(buffer):
            raise ValueError("it ends")
        buffer[:] = view[: len(buffer)]
        view = view[len(buffer) :]

    return read_into


def as_bytes(message):
    return b"".join(encode(message))


def tensor_of(dtype, shape):
    count = math.prod(shape)
    values = torch.arange(3, 3 + 7 * count, 7).reshape(shape)
    return values.remainder(2).bool() if dtype == torch.bool else values.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (1, 2, 0, 4)], ids=str)
def test_tensors_come_back(dtype, shape):
    tensor = tensor_of(dtype, shape)
    content = as_bytes(Message(Kind.FRAME, 70_000, (tensor, tensor_of(torch.int16, (2,)))))
    found = decode(reader(content))
    assert (found.kind, found.number) == (Kind.FRAME, 70_000)
    assert found.tensors[0].dtype == dtype and found.tensors[0].shape == tensor.shape
    assert torch.equal(found.tensors[0], tensor)
    assert found.tensors[1].tolist() == [3, 10]
    data = tensor.numel() * dtype.itemsize + 4
    assert len(content) == 28 + (2 + 8 * len(shape)) + (2 + 8) + data


def test_values_that_are_no_numbers_keep_their_bits():
    bits = torch.tensor([0x7FC00001, 0x7F800000, -0x80000000, 0x7FC00002], dtype=torch.int32)
    (found,) = decode(reader(as_bytes(Message(Kind.FRAME, 0, (bits.view(torch.float32),))))).tensors
    assert torch.equal(found.view(torch.int32), bits)


def test_what_is_not_contiguous_is_sent_as_it_looks():
    tensor = tensor_of(torch.float32, (3, 4)).T[1:]
    (found,) = decode(reader(as_bytes(Message(Kind.FRAME, 0, (tensor,))))).tensors
    assert torch.equal(found, tensor)


def test_large_tensors_are_not_copied():
    tensor = torch.zeros(1000)
    parts = encode(Message(Kind.FRAME, 0, (tensor,)))
    tensor[3] = 1.0
    assert parts[1][12:16] == struct.pack("<f", 1.0)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float8_e5m2"):
        encode(Message(Kind.FRAME, 0, (torch.ones(2).to(torch.float8_e5m2),)))


def resealed(content, place, value, layout):
    """A message with something else in its header and the right checksum."""
    changed = bytearray(content)
    struct.pack_into(layout, changed, place, value)
    length = struct.unpack_from("!I", changed, 12)[0]
    check = zlib.crc32(changed[28 : 28 + length], zlib.crc32(changed[:24]))
    struct.pack_into("!I", changed, 24, check)
    return changed


@pytest.mark.parametrize(
    ("place", "value", "layout", "message"),
    [
        (0, b"HTTP", "4s", "b'HTTP'"),
        (4, VERSION + 1, "!H", f"version {VERSION} .* has {VERSION + 1}"),
        (6, 99, "!B", "known kind.* 99, 0"),
        (7, 1, "!B", "known kind.* 4, 1"),
        (12, 1 << 20, "!I", "at most .* announces 24 and 1048576"),
        (16, LARGEST + 1, "!Q", f"announces {LARGEST + 1} and"),
        (16, 23, "!Q", "24 bytes.* announces 23"),
        (28, 200, "!B", "type 200"),
        (29, 9, "!B", "9 axes"),
        (30, 1 << 62, "!Q", "announces 24"),
    ],
)
def test_wrong_headers_are_named(place, value, layout, message):
    content = as_bytes(Message(Kind.FRAME, 5, (torch.zeros(2, 3),)))
    with pytest.raises(ValueError, match=message):
        decode(reader(resealed(content, place, value, layout)))


def test_huge_axes_of_nothing_are_refused():
    content = as_bytes(Message(Kind.FRAME, 5, (torch.zeros(0, 3),)))
    with pytest.raises(ValueError, match="as large as its tensors"):
        decode(reader(resealed(content, 38, 1 << 60, "!Q")))


def test_so_many_axes_are_refused_as_torch_has_none():
    head = struct.pack("!4sHBBIIQ", b"MECX", VERSION, Kind.FRAME, 0, 0, 2 + 255 * 8, 1)
    axes = bytes([1, 255]) + struct.pack("!255Q", *[1] * 255)
    check = struct.pack("!I", zlib.crc32(axes, zlib.crc32(head)))
    with pytest.raises(ValueError, match="255 axes"):
        decode(reader(head + check + axes + b"x"))


MESSAGE = as_bytes(Message(Kind.FRAME, 3, (torch.arange(6.0).reshape(2, 3), torch.tensor([True]))))
STRUCTURE = len(MESSAGE) - 25  # header and descriptors


@given(st.integers(0, STRUCTURE - 1), st.integers(1, 255))
def test_damaged_structure_is_always_noticed(place, change):
    damaged = bytearray(MESSAGE)
    damaged[place] ^= change
    with pytest.raises(ValueError):
        decode(reader(damaged))


@given(st.integers(0, len(MESSAGE) - 1))
def test_what_is_cut_off_is_always_noticed(length):
    with pytest.raises(ValueError):
        decode(reader(MESSAGE[:length]))


@given(st.binary(max_size=200))
def test_nonsense_is_never_a_message(content):
    with pytest.raises(ValueError):
        decode(reader(content + bytes(HEADER_BYTES)))


@settings(max_examples=50)
@given(st.binary(max_size=200), st.sampled_from(list(Kind)))
def test_nonsense_under_a_good_header_raises_nothing_else(descriptors, kind):
    head = struct.pack("!4sHBBIIQ", b"MECX", VERSION, kind, 0, 0, len(descriptors), 40)
    check = struct.pack("!I", zlib.crc32(descriptors, zlib.crc32(head)))
    try:
        found = decode(reader(head + check + descriptors + bytes(40)))
    except ValueError:
        return
    assert sum(t.numel() * t.element_size() for t in found.tensors) == 40


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(5)
        yield left, right


def test_over_a_socket(pair):
    left, right = pair
    large = torch.arange(300_000.0)
    thread = threading.Thread(target=send, args=(left, encode(Message(Kind.FRAME, 1, (large,)))))
    thread.start()
    found = receive(right)
    thread.join()
    assert torch.equal(found.tensors[0], large)
    left.close()
    with pytest.raises(Ended):
        receive(right)


@pytest.mark.parametrize("length", [1, HEADER_BYTES, HEADER_BYTES + 5, len(MESSAGE) - 1])
def test_a_connection_that_ends_within_a_message(pair, length):
    left, right = pair
    left.sendall(MESSAGE[:length])
    left.close()
    with pytest.raises(ValueError, match=r"within a message, [0-9]+ bytes"):
        receive(right)


def test_texts_are_one_line_whatever_comes():
    assert text_of(text_message(Kind.REFUSAL, "wrong é")) == "wrong é"
    assert text_of(text_message(Kind.REFUSAL, "")) == " "
    assert text_of(text_message(Kind.REFUSAL, "a\nb\x1b[2Jc")) == "a b [2Jc"
    assert len(text_of(text_message(Kind.REFUSAL, "x" * 10_000))) == 500
    broken = torch.tensor([0xFF, 0x41], dtype=torch.uint8)
    assert text_of(Message(Kind.REFUSAL, 0, (broken,))) == "\N{REPLACEMENT CHARACTER}A"
    assert text_of(Message(Kind.REFUSAL, 0, (torch.zeros(3),))) == "(no text)"

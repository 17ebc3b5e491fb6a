"""Reads the learned tensors out of a `.caffemodel`, which is one protocol-buffer message.

Only what is needed of the wire format and of `caffe.proto`: names of layers and their blobs, in the
current layout (`layer`, field 100) and in the one of 2014 (`layers`, field 2), which old public files
have. No prototxt and no Caffe are needed, and nothing in the file is executed.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Value = int | memoryview
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Field numbers in caffe.proto: layer's field in NetParameter → (name, blobs) in the layer.
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}


class CaffeFormatError(ValueError):
    """The bytes are no Caffe network."""


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer in base 128, least digit first, and the position after it."""
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise CaffeFormatError("a number runs past the end of its message")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) of a message: integers for numbers, bytes for everything else."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind not in (FIXED64, BYTES, FIXED32):
            raise CaffeFormatError(f"wire type {kind} does not exist")
        length, at = _read_varint(data, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}[kind], at)
        if at + length > len(data):
            raise CaffeFormatError("a field runs past the end of its message")
        yield key >> 3, data[at : at + length]
        at += length


def _read_shape(message: memoryview) -> list[int]:
    """The sizes in a BlobShape, whose integers are packed into one field or not."""
    sizes = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            sizes.append(value)
        elif number == 1 and not isinstance(value, int):
            at = 0
            while at < len(value):
                size, at = _read_varint(value, at)
                sizes.append(size)
    return sizes


def _read_blob(message: memoryview) -> np.ndarray:
    """A BlobProto as float32; old files give four sizes, padded with ones in front."""
    sizes, shape, floats = {1: 1, 2: 1, 3: 1, 4: 1}, None, []
    for number, value in _fields(message):
        if number in sizes and isinstance(value, int):
            sizes[number] = value
        elif number == 5 and not isinstance(value, int):
            floats.append(np.frombuffer(value, dtype="<f4"))
        elif number == 7 and not isinstance(value, int):
            shape = _read_shape(value)
    values = np.concatenate(floats) if floats else np.empty(0, np.float32)
    shape = [sizes[number] for number in (1, 2, 3, 4)] if shape is None else shape
    if values.size != np.prod(shape, dtype=np.int64):
        raise CaffeFormatError(f"a blob of shape {tuple(shape)} has {values.size} values")
    return values.reshape(shape)


def _read_layer(message: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, value in _fields(message):
        if number == name_field and not isinstance(value, int):
            name = bytes(value).decode("utf-8", "replace")
        elif number == blobs_field and not isinstance(value, int):
            blobs.append(_read_blob(value))
    return name, blobs


def read_caffemodel(path: Path) -> dict[str, list[np.ndarray]]:
    """Name of layer → its blobs (weight, bias), for every layer that learned something."""
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            raise CaffeFormatError("the file is empty")
        # Mapped, not read: VGG-Face is 580 MB, half of which would be copied for nothing.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    layers = {}
    for number, value in _fields(data):
        if number in LAYER_FIELDS and not isinstance(value, int):
            name, blobs = _read_layer(value, *LAYER_FIELDS[number])
            if blobs:
                layers[name] = blobs
    return layers

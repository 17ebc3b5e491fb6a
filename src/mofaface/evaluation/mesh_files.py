"""Scans from files: OBJ and PLY (text, or binary of either byte order), places and triangles alone."""

from pathlib import Path

import numpy as np

from mofaface.face_models.surface import Surface

UNIT_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
# The names of PLY's numbers, old and new.
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def read_scan(path: Path, unit: str = "mm") -> Surface:
    """The surface of a file in mm; polygons become fans of triangles. ValueError for a file that is no mesh."""
    readers = {".obj": _read_obj, ".ply": _read_ply}
    if path.suffix.lower() not in readers:
        raise ValueError(f"a scan is read as .obj or .ply; got {path.name!r}: convert it")
    try:
        positions, polygons = readers[path.suffix.lower()](path.read_bytes())
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a readable {path.suffix[1:]} mesh ({error}); export it again"
        ) from None
    triangles = _triangles(polygons)
    if not len(triangles) or triangles.min() < 0 or triangles.max() >= len(positions):
        raise ValueError(
            f"{path} must have triangles that name its {len(positions)} vertices; export it as a mesh"
        )
    if not np.isfinite(positions).all():
        raise ValueError(f"{path} has vertices that are no numbers; export it again")
    return Surface(positions * UNIT_MM[unit], triangles)


def _read_obj(content: bytes) -> tuple[np.ndarray, list[np.ndarray]]:
    positions, polygons = [], []
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            positions.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            # Numbers count from 1; negative ones from the vertices so far.
            polygons.append(np.array([c - 1 if c > 0 else len(positions) + c for c in corners]))
    return np.array(positions, np.float64).reshape(-1, 3), polygons


def _read_ply(content: bytes) -> tuple[np.ndarray, list[np.ndarray]]:
    head, mark, body = content.partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii").splitlines() if line.strip()]
    if not mark or lines[0] != ["ply"]:
        raise ValueError("no PLY header")
    order = ORDERS[next(words[1] for words in lines if words[0] == "format")]
    body = body[body.index(b"\n") + 1 :]
    positions, polygons = np.empty((0, 3)), []
    for name, count, properties in _elements(lines):
        rows, body = _rows(body, count, properties, order)
        if name == "vertex":
            at = [i for i, words in enumerate(properties) if words[-1] in ("x", "y", "z")]
            positions = np.array([[row[i] for i in at] for row in rows], np.float64).reshape(-1, 3)
        elif name == "face":
            at = [i for i, words in enumerate(properties) if words[-1] in ("vertex_indices", "vertex_index")]
            polygons = [np.asarray(row[at[0]], np.int64) for row in rows]
    return positions, polygons


def _elements(lines: list[list[str]]) -> list[tuple[str, int, list[list[str]]]]:
    found: list[tuple[str, int, list[list[str]]]] = []
    for words in lines:
        if words[0] == "element":
            found.append((words[1], int(words[2]), []))
        elif words[0] == "property":
            found[-1][2].append(words[1:])
    return found


def _rows(body: bytes, count: int, properties: list[list[str]], order: str) -> tuple[list, bytes]:
    """The rows of one element (a value or an array for each property), and what follows it."""
    if not order:
        lines = body.split(b"\n", count)
        return [_text_row(line, properties) for line in lines[:count]], lines[count] if len(
            lines
        ) > count else b""
    if all(words[0] != "list" for words in properties):
        kind = np.dtype([(words[1], order + TYPES[words[0]]) for words in properties])
        return list(np.frombuffer(body, kind, count)), body[count * kind.itemsize :]
    rows, place = [], 0
    for _ in range(count):
        row = []
        for words in properties:
            length = 1
            if words[0] == "list":
                kind = np.dtype(order + TYPES[words[1]])
                length, place = int(np.frombuffer(body, kind, 1, place)[0]), place + kind.itemsize
            kind = np.dtype(order + TYPES[words[2 if words[0] == "list" else 0]])
            row.append(np.frombuffer(body, kind, length, place))
            place += length * kind.itemsize
        rows.append(row)
    return rows, body[place:]


def _text_row(line: bytes, properties: list[list[str]]) -> list:
    numbers, row = line.split(), []
    for words in properties:
        length = 1
        if words[0] == "list":
            length, numbers = int(numbers[0]), numbers[1:]
        row.append(np.array(numbers[:length], np.float64) if words[0] == "list" else np.float64(numbers[0]))
        numbers = numbers[length:]
    return row


def _triangles(polygons: list[np.ndarray]) -> np.ndarray:
    """Fans of triangles, row by row."""
    if polygons and all(len(p) == 3 for p in polygons):
        return np.stack(polygons)
    fans = [np.stack((np.full(len(p) - 2, p[0]), p[1:-1], p[2:]), 1) for p in polygons if len(p) > 2]
    return np.concatenate(fans) if fans else np.empty((0, 3), np.int64)

"""A face model laid out for the compiled kernel: reordered, in tiles of 16 vertices, with its neighbours as rows."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.face_model import FaceModel, SparseMatrix
from mofaface.kernels import native

Precision = Literal["float32", "bfloat16", "int8"]
KINDS: dict[Precision, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
LANES, GROUP = 16, 64
CACHE_LINE = 64  # bytes
MOST_OF_INT8 = 127


@dataclass(frozen=True)
class Tiles:
    """A mean and a basis as `struct Basis` wants them, with what a stored number of each mode is worth."""

    mean: Float[np.ndarray, "tiles 3 16"]
    numbers: np.ndarray
    scale: Float[np.ndarray, "modes"]
    kind: int

    def structure(self) -> native.Basis:
        """The C structure; it points into this object."""
        tiles, modes = self.numbers.shape[:2]
        return native.Basis(tiles, modes, self.kind, *map(_address, (self.mean, self.numbers, self.scale)))


class PackedModel:
    """A face model for the kernel: `structure` points into arrays that this object keeps alive.

    The vertices that count are the frontal ones, in an order that keeps neighbours together, then the rest of
    their one-rings. Everything else is left out; the landmarks' vertices are kept apart.
    """

    def __init__(self, model: FaceModel, points: Int[Tensor, "points"], precision: Precision = "float32"):
        triangles = model.triangles.numpy()
        frontal = model.frontal.numpy()
        used = triangles[frontal[triangles].any(1)]
        place = model.mean_shape.numpy()
        self.order = np.concatenate(
            [
                nearby(np.flatnonzero(frontal), place),
                nearby(np.setdiff1d(np.unique(used), np.flatnonzero(frontal)), place),
            ]
        )
        self.frontal = int(frontal.sum())
        local = np.full(len(frontal), -1, np.int64)
        local[self.order] = np.arange(len(self.order))
        self.ring_start, self.ring = fans(local[used], len(self.order))
        self._pack_geometry(model, precision)
        reflectance = model.reflectance_basis.numpy()[self.order[: self.frontal]]
        mean = model.mean_reflectance.numpy()[self.order[: self.frontal]]
        self.reflectance = tiles(mean, reflectance, precision)
        # The kernel's coefficients of geometry are already in units of its scale.
        chosen = points.numpy()
        basis = torch.cat((model.shape_basis, model.expression_basis), -1).numpy()[chosen]
        self.landmarks = tiles(model.mean_shape.numpy()[chosen], basis / self.geometry.scale, "float32")
        self.structure = self._structure(model, len(chosen))

    def _pack_geometry(self, model: FaceModel, precision: Precision) -> None:
        stored = model.stored
        if stored.subdivision is None:
            basis = torch.cat((model.shape_basis, model.expression_basis), -1).numpy()[self.order]
            self.geometry = tiles(model.mean_shape.numpy()[self.order], basis, precision)
            self.S = self.S_transposed = None
            return
        rows = stored.subdivision.rows(self.order)
        corners = nearby(np.unique(rows.indices), stored.mean_shape)
        cage = np.full(rows.columns, -1, np.int64)
        cage[corners] = np.arange(len(corners))
        count = -(-len(corners) // GROUP) * GROUP
        self.S = SparseMatrix(rows.indptr, cage[rows.indices], rows.values, count)
        self.S_transposed = self.S.transposed()
        basis = np.concatenate((stored.shape_basis, stored.expression_basis), -1)[corners]
        self.geometry = tiles(stored.mean_shape[corners], basis, precision)

    def _structure(self, model: FaceModel, points: int) -> native.Model:
        layout = model.layout
        self._kept = [_rows(S) for S in (self.S, self.S_transposed)]
        self._kept.append(
            (self.ring_start.astype(np.int32), self.ring.astype(np.int32), np.zeros(1, np.float32))
        )
        return native.Model(
            self.frontal,
            len(self.order),
            points,
            layout.shape + layout.expression,
            layout.reflectance,
            self.geometry.structure(),
            self.reflectance.structure(),
            self.landmarks.structure(),
            *(native.Rows(*(None if a is None else _address(a) for a in kept)) for kept in self._kept),
        )

    @property
    def basis_bytes(self) -> int:
        """Bytes of the bases that one evaluation reads: geometry and reflectance."""
        return self.geometry.numbers.nbytes + self.reflectance.numbers.nbytes


def tiles(
    mean: Float[np.ndarray, "vertices 3"], basis: Float[np.ndarray, "vertices 3 modes"], precision: Precision
) -> Tiles:
    """Mean and basis in groups of four tiles, padded with zeros; modes before axes before vertices."""
    count = -(-len(mean) // GROUP) * GROUP
    padded_mean = np.zeros((count, 3), np.float32)
    padded_mean[: len(mean)] = mean
    padded = np.zeros((count, 3, basis.shape[-1]), np.float32)
    padded[: len(mean)] = basis
    scale = np.ones(basis.shape[-1], np.float32)
    if precision == "int8":
        scale = np.maximum(np.abs(padded).max((0, 1)), 1e-30).astype(np.float32) / MOST_OF_INT8
        padded = np.rint(padded / scale)
    numbers = np.ascontiguousarray(padded.reshape(-1, LANES, 3, len(scale)).transpose(0, 3, 2, 1))
    if precision == "bfloat16":
        numbers = torch.from_numpy(numbers).to(torch.bfloat16).view(torch.int16).numpy()
    if precision == "int8":
        numbers = numbers.astype(np.int8)
    in_tiles = padded_mean.reshape(-1, LANES, 3).transpose(0, 2, 1)
    return Tiles(aligned(in_tiles), aligned(numbers), scale, KINDS[precision])


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins where a cache line does, so that no load of a vector touches two lines."""
    memory = empty_aligned(array.nbytes)
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def empty_aligned(size: int) -> np.ndarray:
    """Bytes that begin where a cache line does. NumPy asks the system for large pages where it has them."""
    memory = np.empty(size + CACHE_LINE, np.uint8)
    return memory[-memory.ctypes.data % CACHE_LINE :][:size]


def nearby(
    vertices: Int[np.ndarray, "_"], place: Float[np.ndarray, "all 3"], bits: int = 10
) -> Int[np.ndarray, "_"]:
    """The vertices along a Morton curve through their places: neighbours in space become neighbours in memory."""
    if len(vertices) == 0:
        return vertices.astype(np.int64)
    x = place[vertices] - place[vertices].min(0)
    cells = (x / max(float(x.max()), 1e-30) * (2**bits - 1)).astype(np.int64)
    code = np.zeros(len(vertices), np.int64)
    for bit in range(bits):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return vertices[np.argsort(code, kind="stable")].astype(np.int64)


def one_rings(
    triangles: Int[np.ndarray, "faces 3"], vertices: int
) -> tuple[Int[np.ndarray, "starts"], Int[np.ndarray, "entries"]]:
    """For each vertex the next and the previous corner of each of its triangles, one after the other."""
    corner = triangles.ravel()
    pair = np.stack((np.roll(triangles, -1, axis=1).ravel(), np.roll(triangles, 1, axis=1).ravel()), -1)
    order = np.argsort(corner, kind="stable")
    start = np.concatenate(([0], np.cumsum(np.bincount(corner, minlength=vertices)))) * 2
    return start, pair[order].ravel()


def fans(
    triangles: Int[np.ndarray, "faces 3"], vertices: int
) -> tuple[Int[np.ndarray, "starts"], Int[np.ndarray, "entries"]]:
    """For each vertex the corners around it, fan by fan: every two that follow each other make a triangle with it.

    A fan begins with ~corner. A closed one ends with the corner it began with; where more than two triangles share an
    edge, fans end.
    """
    vertex, p = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    q = np.roll(triangles, 1, axis=1).ravel()
    after = _follower(vertex * vertices + p, vertex * vertices + q)
    fan, place = _chains(after, vertex)
    order = np.lexsort((place, fan, vertex))
    begins = (place == 0)[order]
    end = np.cumsum(1 + begins)
    entries = np.empty(end[-1] if len(end) else 0, np.int64)
    entries[end - 1] = q[order]
    entries[(end - 2)[begins]] = ~p[order][begins]
    count = np.bincount(vertex, 1 + (place == 0), vertices).astype(np.int64)
    return np.concatenate(([0], np.cumsum(count))), entries


def _follower(begin: Int[np.ndarray, "_"], end: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
    """For each edge the one that begins where it ends, −1 for none, and for every edge where there is a choice."""
    values, where, count = np.unique(begin, return_index=True, return_counts=True)
    ends, which, times = np.unique(end, return_inverse=True, return_counts=True)
    place = np.searchsorted(values, ends).clip(max=max(len(values) - 1, 0))
    if len(values) == 0:
        return np.empty(0, np.int64)
    sound = (values[place] == ends) & (count[place] == 1) & (times == 1)
    return np.where(sound, where[place], -1)[which]


def _chains(
    after: Int[np.ndarray, "_"], owner: Int[np.ndarray, "_"]
) -> tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]:
    """For each element the first one of its chain and its place in it; a ring is cut at its first element."""
    first, place = np.full(len(after), -1), np.zeros(len(after), np.int64)
    heads = np.setdiff1d(np.arange(len(after)), after)
    while len(heads):
        at, origin, step = heads, heads, 0
        while len(at):
            first[at], place[at] = origin, step
            at, step = after[at], step + 1
            going = (at >= 0) & (first[at] < 0)
            at, origin = at[going], origin[going]
        # What is left are rings, one of each owner at a time.
        left = np.flatnonzero(first < 0)
        heads = left[np.unique(owner[left], return_index=True)[1]]
    return first, place


def _rows(S: SparseMatrix | None) -> Sequence[np.ndarray | None]:
    if S is None:
        return (None, None, None)
    return (
        S.indptr.astype(np.int32),
        S.indices.astype(np.int32),
        np.ascontiguousarray(S.values, np.float32),
    )


def _address(array: np.ndarray) -> int:
    return array.ctypes.data_as(ctypes.c_void_p).value or 0

"""A face model laid out for the Triton kernels: reordered, in whole tiles, with its neighbours as columns."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.face_model import FaceModel
from mofaface.kernels.packing import MOST_OF_INT8, Precision, nearby, one_rings

# Vertices and modes of a tile; a tile of a basis is then one run of memory. Sixteen modes are the fewest that
# Triton multiplies.
TILE_VERTICES, TILE_MODES = 32, 16
_LEAST_LANDMARKS = 16


@dataclass(frozen=True)
class TiledBasis:
    """A mean and a basis in tiles, filled up with zeros."""

    mean: Float[Tensor, "tiles 3 vertices"]
    numbers: Tensor
    """(tiles, groups of modes, 3, vertices, modes), float32, bfloat16 or int8."""
    scale: Float[Tensor, "padded_modes"]
    """What a stored number of each mode is worth."""
    modes: int
    """Without the padding."""

    @property
    def tiles(self) -> int:
        """How many tiles of vertices there are."""
        return len(self.mean)

    @property
    def bytes(self) -> int:
        """Memory of the basis."""
        return self.numbers.nbytes


@dataclass(frozen=True)
class TritonModel:
    """The vertices that count, the frontal ones first, and what the kernels need of them, on the model's device."""

    geometry: TiledBasis
    """Of all of them, mm."""
    reflectance: TiledBasis
    """Of the frontal ones, RGB."""
    landmarks: TiledBasis
    """Geometry of the landmarks' vertices in one tile, float32."""
    ring: Int[Tensor, "twice_slots vertices"]
    """Row 2k and row 2k + 1: the other two corners, in order, of a vertex's k-th triangle; itself where it has fewer."""
    degree: Int[Tensor, "tiles"]
    """The most triangles that a vertex of a tile has."""
    worth: Float[Tensor, "size"]
    """What the kernels' sums are worth as gradients of E_photo by each value of the packed code."""
    frontal: int
    """N."""


def triton_model(
    model: FaceModel, points: Int[Tensor, "points"], precision: Precision = "float32"
) -> TritonModel:
    """A face model for the kernels, with these vertices as its landmarks."""
    device = model.mean_shape.device
    triangles, frontal = model.triangles.cpu().numpy(), model.frontal.cpu().numpy()
    used = triangles[frontal[triangles].any(1)]
    seen = np.flatnonzero(frontal)
    place = model.mean_shape.float().cpu().numpy()
    order = np.concatenate((nearby(seen, place), nearby(np.setdiff1d(np.unique(used), seen), place)))
    ring, degree = padded_rings(used, order, len(frontal))
    basis = torch.cat((model.shape_basis, model.expression_basis), -1)
    take, chosen = torch.from_numpy(order).to(device), points.to(device)
    colours = take[: len(seen)]
    geometry = tiled(model.mean_shape[take], basis[take], precision)
    reflectance = tiled(model.mean_reflectance[colours], model.reflectance_basis[colours], precision)
    tile = max(_LEAST_LANDMARKS, 1 << max(len(points) - 1, 0).bit_length())
    worth = torch.ones(model.layout.size)
    places = model.layout.slices()
    worth[places["alpha"].start : places["delta"].stop] = geometry.scale[: geometry.modes].cpu()
    worth[places["beta"]] = reflectance.scale[: reflectance.modes].cpu()
    worth[places["gamma"]] = _bands().repeat_interleave(3)
    return TritonModel(
        geometry,
        reflectance,
        tiled(model.mean_shape[chosen], basis[chosen], "float32", tile),
        torch.from_numpy(ring).to(device),
        torch.from_numpy(degree).to(device),
        (worth / torch.tensor(float(len(seen)))).to(device),
        len(seen),
    )


def tiled(
    mean: Float[Tensor, "vertices 3"],
    basis: Float[Tensor, "vertices 3 modes"],
    precision: Precision,
    tile: int = TILE_VERTICES,
) -> TiledBasis:
    """Mean and basis in tiles of so many vertices, on their device."""
    modes = basis.shape[-1]
    padded = basis.new_zeros(up_to(len(basis), tile), 3, up_to(modes, TILE_MODES), dtype=torch.float32)
    padded[: len(basis), :, :modes] = basis
    padded_mean = mean.new_zeros(len(padded), 3, dtype=torch.float32)
    padded_mean[: len(mean)] = mean
    scale = padded.new_ones(padded.shape[-1])
    if precision == "int8":
        scale = padded.abs().amax((0, 1)).clamp(min=1e-30) / MOST_OF_INT8
        padded = (padded / scale).round()
    in_tiles = padded.unflatten(0, (-1, tile)).unflatten(-1, (-1, TILE_MODES)).permute(0, 3, 2, 1, 4)
    numbers = in_tiles.to(getattr(torch, precision)).contiguous()
    return TiledBasis(padded_mean.unflatten(0, (-1, tile)).mT.contiguous(), numbers, scale, modes)


def padded_rings(
    triangles: Int[np.ndarray, "faces 3"], order: Int[np.ndarray, "_"], vertices: int
) -> tuple[Int[np.ndarray, "twice_slots padded"], Int[np.ndarray, "tiles"]]:
    """`ring` and `degree` of a TritonModel for these triangles, vertices renumbered by `order`."""
    local = np.full(vertices, -1, np.int64)
    local[order] = np.arange(len(order))
    starts, entries = one_rings(local[triangles], len(order))
    count = up_to(len(order), TILE_VERTICES)
    degree = np.zeros(count, np.int64)
    degree[: len(order)] = np.diff(starts) // 2
    most = int(degree.max())
    # A vertex beside itself twice is a triangle without area: it adds nothing to normals and gradients.
    ring = np.tile(np.arange(count), (2 * max(most, 1), 1))
    for slot in range(most):
        has = np.flatnonzero(degree > slot)
        for corner in (0, 1):
            ring[2 * slot + corner, has] = entries[starts[has] + 2 * slot + corner]
    return ring.astype(np.int32), degree.reshape(-1, TILE_VERTICES).max(1).astype(np.int32)


def up_to(count: int, tile: int) -> int:
    """The next multiple of `tile` from `count` on, at least one."""
    return max(-(-count // tile), 1) * tile


def _bands() -> Float[Tensor, "9"]:
    """What each harmonic's polynomial is multiplied by; the kernels sum the polynomials alone."""
    _1, _2, _20 = 3**0.5, 15**0.5, 0.5 * 5**0.5
    return torch.tensor((1, _1, _1, _1, _2, _2, _20, _2, 0.5 * _2))

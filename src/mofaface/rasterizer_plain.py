"""The rasteriser once more in plain PyTorch: the readable twin of rasterizer.py, for any device with float64.

Pairs of a triangle and a pixel of its bounding box are listed, tested, and reduced to the nearest per pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32
from torch import Tensor

from mofaface.rasterizer import FARTHEST_PIXEL, NEAREST_DEPTH, SNAP

PAIRS_AT_ONCE = 2**21


@dataclass(frozen=True)
class PlainFragments:
    """Tensors of what each pixel sees, as in rasterizer.Fragments."""

    triangle_index: Int32[Tensor, "height width"]
    barycentric: Float32[Tensor, "height width 3"]
    depth: Float32[Tensor, "height width"]


def rasterize_plain(
    uv: Float[Tensor, "vertices 2"],
    depth: Float[Tensor, " vertices"],
    triangles: Int[Tensor, "triangles 3"],
    height: int,
    width: int,
    cull_back: bool = True,
) -> PlainFragments:
    """The nearest triangle, barycentric coordinates and depth (unit of `depth`, mm) at each pixel centre."""
    points, z = (uv.double() * SNAP).round() / SNAP, depth.double()
    usable = (uv.abs() <= FARTHEST_PIXEL).all(-1) & (z > NEAREST_DEPTH) & (z < torch.inf)
    points, closeness = torch.where(usable[:, None], points, 0.0), torch.where(usable, 1 / z, 0.0)
    area = _side(points[triangles[:, 0]], points[triangles[:, 1]], points[triangles[:, 2]])
    kept = usable[triangles].all(-1) & ((area < 0) | ((area > 0) & (not cull_back)))
    first, size = _pixel_boxes(points[triangles], height, width)
    counts = torch.where(kept, size.prod(-1), 0)
    index = torch.full((height * width,), -1, dtype=torch.int64, device=uv.device)
    nearest = torch.zeros(height * width, device=uv.device)
    for t, x, y in _pairs(first, size, counts):
        sides, inside = _sides(points[triangles[t]], _centres(x, y))
        t, pixel, sides = t[inside], (y * width + x)[inside], sides[inside]
        closest = (sides * closeness[triangles[t]]).sum(-1) / sides.sum(-1)
        _keep_nearest(index, nearest, t, pixel, closest.float())
    return _fragments(index.reshape(height, width), points, closeness, triangles)


def _side(
    a: Float64[Tensor, "*batch 2"], b: Float64[Tensor, "*batch 2"], p: Float64[Tensor, "*batch 2"]
) -> Float64[Tensor, "*batch"]:
    """Twice the signed area of (a, b, p); exact for snapped points less than 4096 px apart."""
    return (b - a)[..., 0] * (p - a)[..., 1] - (b - a)[..., 1] * (p - a)[..., 0]


def _pixel_boxes(
    corners: Float64[Tensor, "triangles 3 2"], height: int, width: int
) -> tuple[Int[Tensor, "triangles 2"], Int[Tensor, "triangles 2"]]:
    limit = corners.new_tensor([width, height])
    first = (corners.amin(1).clamp(min=0) - 0.5).ceil()
    last = (corners.amax(1).minimum(limit) - 0.5).floor()
    return first.long(), (last - first + 1).clamp(min=0).long()


def _pairs(
    first: Int[Tensor, "triangles 2"], size: Int[Tensor, "triangles 2"], counts: Int[Tensor, " triangles"]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Triangle, x and y of every pixel in the triangles' boxes, in parts of about PAIRS_AT_ONCE."""
    _, sizes = torch.unique(counts.cumsum(0) // PAIRS_AT_ONCE, return_counts=True)
    for triangles in torch.arange(len(counts), device=counts.device).split(sizes.tolist()):
        t = triangles.repeat_interleave(counts[triangles])
        starts = counts[triangles].cumsum(0) - counts[triangles]
        within = torch.arange(len(t), device=t.device) - starts.repeat_interleave(counts[triangles])
        yield t, first[t, 0] + within % size[t, 0], first[t, 1] + within // size[t, 0]


def _sides(
    corners: Float64[Tensor, "pairs 3 2"], pixels: Float64[Tensor, "pairs 2"]
) -> tuple[Float64[Tensor, "pairs 3"], Bool[Tensor, " pairs"]]:
    """Areas opposite to each corner, positive inside, and whether the triangle owns the pixel (top-left)."""
    a, b = corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]
    sides = _side(a, b, pixels[:, None].expand_as(a))
    sign = _side(corners[:, 0], corners[:, 1], corners[:, 2]).sign()[:, None]
    dx, dy = ((b - a) * sign[..., None]).unbind(-1)
    owns = (dy < 0) | ((dy == 0) & (dx > 0))
    sides = sides * sign
    return sides, ((sides > 0) | ((sides == 0) & owns)).all(-1)


def _centres(x: Int[Tensor, " pixels"], y: Int[Tensor, " pixels"]) -> Float64[Tensor, "pixels 2"]:
    return torch.stack([x, y], -1).double() + 0.5


def _keep_nearest(index: Tensor, nearest: Tensor, t: Tensor, pixel: Tensor, closeness: Tensor) -> None:
    """Enters in place the triangles that are nearer than what is there; the first of equally near ones."""
    before = nearest[pixel]
    nearest.scatter_reduce_(0, pixel, closeness, "amax")
    wins = (closeness == nearest[pixel]) & (closeness > before)
    index[pixel[wins]] = torch.iinfo(index.dtype).max
    index.scatter_reduce_(0, pixel[wins], t[wins], "amin")


def _fragments(index: Tensor, points: Tensor, closeness: Tensor, triangles: Tensor) -> PlainFragments:
    barycentric = torch.zeros(*index.shape, 3, device=index.device)
    depth = torch.full(index.shape, torch.inf, device=index.device)
    y, x = torch.nonzero(index >= 0, as_tuple=True)
    corners = triangles[index[y, x]]
    sides, _ = _sides(points[corners], _centres(x, y))
    weights = sides * closeness[corners]
    barycentric[y, x] = (weights / weights.sum(-1, keepdim=True)).float()
    depth[y, x] = (sides.sum(-1) / weights.sum(-1)).float()
    return PlainFragments(index.int(), barycentric, depth)

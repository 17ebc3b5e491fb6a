"""Triangle meshes in tensors: normals from the one-ring."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def face_normals(
    x: Float[Tensor, "batch vertices 3"], triangles: Int[Tensor, "faces 3"]
) -> Float[Tensor, "batch faces 3"]:
    """Outward normals of the triangles, twice the triangle's area long (mm²)."""
    a, b, c = (x[:, triangles[:, k]] for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(
    x: Float[Tensor, "batch vertices 3"], triangles: Int[Tensor, "faces 3"]
) -> Float[Tensor, "batch vertices 3"]:
    """Unit normals of the vertices: the area-weighted mean over the one-ring.

    A vertex whose triangles all vanish gets a zero normal with zero gradient, never a NaN.
    """
    f = face_normals(x, triangles)
    n = torch.zeros_like(x)
    for k in range(3):
        n = n.index_add(1, triangles[:, k], f)
    return normalise(n)


def normalise(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Unit vectors along v; zero where v is zero."""
    s = (v * v).sum(-1, keepdim=True)
    zero = s == 0
    return torch.where(zero, torch.zeros_like(v), v * torch.where(zero, torch.ones_like(s), s).rsqrt())

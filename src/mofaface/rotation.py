"""Rotations of three-dimensional space, smooth everywhere a network may look.

A rotation vector points along the axis and its length is the angle in radians (right-hand rule).
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Below this squared angle the series replaces the closed form; its error there is under 1e-17.
_SMALL_SQUARED_ANGLE = 1e-6


def cross_matrix(w: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix [w]× with [w]× v = w × v."""
    x, y, z = w.unbind(-1)
    o = torch.zeros_like(x)
    rows = (torch.stack((o, -z, y), -1), torch.stack((z, o, -x), -1), torch.stack((-y, x, o), -1))
    return torch.stack(rows, -2)


def rotation_matrix(w: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation exp([w]×) of a rotation vector in radians (Rodrigues' formula).

    Written in the squared angle with a Taylor branch at zero, so that value and every derivative are
    finite and exact at the zero code, where training starts.
    """
    s = (w * w).sum(-1)[..., None, None]
    small = s < _SMALL_SQUARED_ANGLE
    # Both branches of `where` are differentiated: the closed form must not see zero.
    safe = torch.where(small, torch.ones_like(s), s)
    angle = safe.sqrt()
    sinc = torch.where(small, 1 - s / 6 + s * s / 120, angle.sin() / angle)
    cosc = torch.where(small, 0.5 - s / 24 + s * s / 720, (1 - angle.cos()) / safe)
    W = cross_matrix(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + sinc * W + cosc * (W @ W)

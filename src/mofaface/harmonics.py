"""Real spherical harmonics of the first three bands, the basis of illumination (equation 4).

Order (l, m): (0,0) (1,−1) (1,0) (1,1) (2,−2) (2,−1) (2,0) (2,1) (2,2), as real orthonormal harmonics without
the Condon–Shortley sign. The constants are scaled by √(4π), so that the first is exactly 1 and an ambient
coefficient of 0.7 is a shading of 0.7: the paper gives the offset but no normalisation.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

BANDS = 3
COUNT = BANDS * BANDS

_1 = math.sqrt(3)
_2 = math.sqrt(15)
_20 = math.sqrt(5) / 2


def harmonics(n: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 9"]:
    """The nine harmonics H_b at unit vectors n, dimensionless."""
    x, y, z = n.unbind(-1)
    bands = (
        torch.ones_like(x),
        _1 * y,
        _1 * z,
        _1 * x,
        _2 * x * y,
        _2 * y * z,
        _20 * (3 * z * z - 1),
        _2 * x * z,
        0.5 * _2 * (x * x - y * y),
    )
    return torch.stack(bands, -1)


def quadratic_form(
    gamma: Float[Tensor, "*batch 9 channels"],
) -> tuple[
    Float[Tensor, "*batch channels 3 3"], Float[Tensor, "*batch channels 3"], Float[Tensor, "*batch channels"]
]:
    """Q, l and m with Σ_b γ_b H_b(n) = n·(Q n + l) + m for each channel (Ramamoorthi and Hanrahan 2001, equation 12)."""
    h00, h1m, h10, h11, h2mm, h2m, h20, h21, h22 = gamma.unbind(-2)
    xy, yz, xz, zz = 0.5 * _2 * h2mm, 0.5 * _2 * h2m, 0.5 * _2 * h21, 3 * _20 * h20
    xx = 0.5 * _2 * h22
    rows = (torch.stack((xx, xy, xz), -1), torch.stack((xy, -xx, yz), -1), torch.stack((xz, yz, zz), -1))
    return torch.stack(rows, -2), _1 * torch.stack((h11, h1m, h10), -1), h00 - _20 * h20

"""Similarities of the plane: the exact link between a photo's pixels and a crop's.

p_out = scale * Rot(angle) @ p_in + (tx, ty). Pixels with (0, 0) at the corner of the image and pixel centres
at +0.5, so a resize is a pure scale. Everything is float64, hence invertible to the last digits.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Similarity:
    """A scale, a rotation (radians, from x towards y) and a shift (pixels)."""

    scale: float
    angle: float
    tx: float
    ty: float

    def linear(self) -> Float[np.ndarray, "2 2"]:
        """scale * Rot(angle)."""
        c, s = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def matrix(self) -> Float[np.ndarray, "2 3"]:
        """The 2×3 matrix that maps (x, y, 1)."""
        return np.column_stack([self.linear(), [self.tx, self.ty]])

    def apply(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """The mapped points, pixels."""
        return np.asarray(points, np.float64) @ self.linear().T + np.array([self.tx, self.ty])

    def inverse(self) -> "Similarity":
        """The similarity that undoes this one."""
        back = Similarity(1.0 / self.scale, -self.angle, 0.0, 0.0)
        tx, ty = -(back.linear() @ np.array([self.tx, self.ty]))
        return Similarity(back.scale, back.angle, float(tx), float(ty))

    def compose(self, first: "Similarity") -> "Similarity":
        """The similarity that applies `first` and then this one."""
        tx, ty = self.apply(np.array([first.tx, first.ty]))
        return Similarity(self.scale * first.scale, self.angle + first.angle, float(tx), float(ty))

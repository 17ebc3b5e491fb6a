"""What a foreign model file says, in our units and axes, before anything is cut or resampled."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int


class ModelFileError(ValueError):
    """A foreign file that is not the face model it should be, and what to do."""


@dataclass(frozen=True)
class RawModel:
    """A linear face model on the mesh of its own file: mm, RGB in [0, 1], bases times their standard deviations."""

    name: str
    version: str
    licence: str
    mean_shape: Float[np.ndarray, "vertices 3"]
    shape_basis: Float[np.ndarray, "vertices 3 shape"]
    expression_basis: Float[np.ndarray, "vertices 3 expression"]
    """No modes, if the file holds none."""
    triangles: Int[np.ndarray, "faces 3"]
    """From 0, counter-clockwise from outside."""
    mean_reflectance: Float[np.ndarray, "vertices 3"] | None = None
    reflectance_basis: Float[np.ndarray, "vertices 3 reflectance"] | None = None
    landmarks_68: Int[np.ndarray, "68"] | None = None
    uv: Float[np.ndarray, "vertices 2"] | None = None
    unit_names: tuple[str, ...] = ()
    units: Float[np.ndarray, "units expression"] | None = None
    """Named expressions, one row of coefficients each."""
    notes: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ModelFileError(
                    f"a face model holds finite numbers; {field.name} of {self.name} does not: copy the file again"
                )
        for name in ("triangles", "landmarks_68"):
            index = getattr(self, name)
            if index is not None and not (0 <= index.min() and index.max() < len(self.mean_shape)):
                raise ModelFileError(
                    f"{name} of {self.name} must be numbers of its {len(self.mean_shape)} vertices, "
                    f"from 0; they run from {index.min()} to {index.max()}"
                )


def outward(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Int[np.ndarray, "faces 3"]:
    """The triangles, all turned around if most of their area faces the middle of the mesh's box."""
    if not (0 <= triangles.min() and triangles.max() < len(positions)):
        return triangles  # RawModel says what is wrong with them
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    middle = 0.5 * (positions.min(axis=0) + positions.max(axis=0))
    # A face is open at the back: seen from behind its middle, what is outside faces away.
    middle = middle - [0.0, 0.0, 0.5 * (positions[:, 2].max() - positions[:, 2].min())]
    volume = np.einsum("fx,fx->", np.cross(b - a, c - a), (a + b + c) / 3 - middle)
    return triangles if volume > 0 else triangles[:, ::-1].copy()

"""A second, linear view of the expression code: δ ↔ non-negative weights w of the model's named face units (ARKit's 52).

δ = Uᵀ w is exact. Back, w = argmin |E (Uᵀ w − δ)|² over 0 ≤ w ≤ 1, the distance measured on the mesh (mm): a
box-constrained least-squares problem with one small Gram matrix for all codes, solved by coordinate
descent, which decreases it at every step and converges because the problem is convex with a separable box (Tseng 2001).

python -m mofaface.face_models.face_units [MODEL]: the errors of both directions.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.face_model import FaceModel, FaceModelArrays
from mofaface.face_models import OPEN_MODEL, find_face_model
from mofaface.face_models.container import read_arrays

SWEEPS = 2000
SETTLED = 1e-5  # change of a weight in a whole sweep
# A pull to zero, as a share of a unit's own squared length: weights that do nothing, or undo each other, stay off.
RIDGE = 1e-6
RANDOM = 100


class FaceUnitsError(ValueError):
    """The face model names no face units."""


@dataclass(frozen=True)
class FaceUnits:
    """The named units of a model: their codes, and the mesh's metric on codes."""

    names: tuple[str, ...]
    U: Float[np.ndarray, "units expression"]
    metric: Float[np.ndarray, "expression expression"]
    """δᵀ metric δ is the mean squared motion of a vertex, mm²."""

    @classmethod
    def of(cls, model: FaceModel | FaceModelArrays) -> "FaceUnits":
        """The units of a face model."""
        arrays = model.arrays if isinstance(model, FaceModel) else model
        if arrays.units_expression is None or not arrays.unit_names:
            raise FaceUnitsError(
                f"weights of face units need a model that names some; '{arrays.name}' names none: "
                "give it some with `mofaface model build-expression`"
            )
        basis = arrays.subdivided().expression_basis
        flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
        units = arrays.units_expression.astype(np.float64)
        return cls(arrays.unit_names, units, flat.T @ flat / len(basis))

    def delta(self, weights: Float[np.ndarray, "*batch units"]) -> Float[np.ndarray, "*batch expression"]:
        """The expression code δ = Uᵀ w."""
        return weights @ self.U

    def weights(
        self, delta: Float[np.ndarray, "*batch expression"], most: float = 1.0
    ) -> Float[np.ndarray, "*batch units"]:
        """Weights in [0, most] whose expression is nearest to that of δ on the mesh."""
        gram, right = self.U @ self.metric @ self.U.T, delta @ self.metric @ self.U.T
        flat = box_least_squares(gram, right.reshape(-1, len(self.names)), most)
        return flat.reshape(*delta.shape[:-1], len(self.names))

    def motion_mm(self, delta: Float[np.ndarray, "*batch expression"]) -> Float[np.ndarray, "*batch"]:
        """Root mean square motion of a vertex from the neutral face, mm."""
        squared = np.einsum("...i,ij,...j->...", delta, self.metric, delta)
        return np.asarray(np.sqrt(squared.clip(0)))


def box_least_squares(
    gram: Float[np.ndarray, "units units"], right: Float[np.ndarray, "batch units"], most: float
) -> Float[np.ndarray, "batch units"]:
    """argmin ½ wᵀ G w − rᵀ w over 0 ≤ w ≤ most, for each row r; units of no length get weight zero."""
    own = np.diag(gram)
    live = np.flatnonzero(own > 1e-9 * own.max())
    weights, slope = np.zeros_like(right), -right.copy()
    for _ in range(SWEEPS):
        largest = 0.0
        for k in live:
            stiffness = (1 + RIDGE) * own[k]
            step = weights[:, k] - (slope[:, k] + RIDGE * own[k] * weights[:, k]) / stiffness
            change = step.clip(0.0, most) - weights[:, k]
            weights[:, k] += change
            slope += change[:, None] * gram[k]
            largest = max(largest, float(np.abs(change).max(initial=0.0)))
        if largest < SETTLED:
            break
    return weights


@dataclass(frozen=True)
class FaceUnitsReport:
    """Errors of the view, mm root mean square over the mesh, and weights."""

    random_mm: float
    random_motion_mm: float
    unit_mm: Float[np.ndarray, "units"]
    unit_weight: Float[np.ndarray, "units"]
    unit_motion_mm: Float[np.ndarray, "units"]
    round_trip_mm: float
    round_trip_weight: float


def measure(units: FaceUnits, seed: int = 0, strength: float = 1.0) -> FaceUnitsReport:
    """Errors over random codes N(0, strength²), each unit alone, and random weights there and back."""
    rng = np.random.default_rng(seed)
    random = strength * rng.standard_normal((RANDOM, units.U.shape[1]))
    alone = units.delta(np.eye(len(units.names)))
    given = np.where(
        rng.random((RANDOM, len(units.names))) < 0.15, rng.random((RANDOM, len(units.names))), 0.0
    )
    given[:, units.motion_mm(alone) < 1e-6] = 0.0
    codes = units.delta(given)
    found = units.weights(codes)
    return FaceUnitsReport(
        float(units.motion_mm(units.delta(units.weights(random)) - random).mean()),
        float(units.motion_mm(random).mean()),
        units.motion_mm(units.delta(units.weights(alone)) - alone),
        np.diag(units.weights(alone)).copy(),
        units.motion_mm(alone),
        float(units.motion_mm(units.delta(found) - codes).mean()),
        float(np.abs(found - given).mean()),
    )


def main() -> None:
    """Print the errors of a model's face units."""
    path = find_face_model(sys.argv[1]) if len(sys.argv) > 1 else OPEN_MODEL
    units = FaceUnits.of(read_arrays(Path(path))[0])
    for strength in (0.5, 1.0):
        report = measure(units, strength=strength)
        error, motion = report.random_mm, report.random_motion_mm
        print(f"random codes N(0, {strength}²): {error:.2f} mm left of {motion:.2f} mm moved")
    print(
        f"random weights there and back: {report.round_trip_mm:.4f} mm, {report.round_trip_weight:.4f} per weight"
    )
    print("unit: motion mm, error mm, its own weight")
    for name, *figures in zip(
        units.names, report.unit_motion_mm, report.unit_mm, report.unit_weight, strict=True
    ):
        print(f"{name:20s} {figures[0]:6.3f} {figures[1]:7.4f} {figures[2]:6.3f}")


if __name__ == "__main__":
    main()

"""python -m mofaface.face_models.open_model.measure [FILE]: the figures of the model card."""

import sys
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.face_model import FaceModel
from mofaface.face_models import OPEN_MODEL, load_face_model
from mofaface.face_models.open_model.modes import LISTED

RANDOM_FACES = 200


def basis_figures(basis: Float[np.ndarray, "vertices 3 modes"]) -> dict[str, object]:
    """Spread per vertex, worst cosine between two modes, and the cumulative shares of the modes' variance."""
    flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
    gram = flat.T @ flat
    sigma = np.sqrt(np.diag(gram))
    share = np.cumsum(sigma**2) / (sigma**2).sum()
    return {
        "spread per vertex": round(float(np.sqrt((sigma**2).sum() / len(basis))), 4),
        "worst cosine between modes": float(np.abs(gram / np.outer(sigma, sigma) - np.eye(len(sigma))).max()),
        "share of the first modes": {n: round(float(share[n - 1]), 4) for n in LISTED if n <= len(sigma)},
    }


def share_outside(model: FaceModel) -> float:
    """Share of the reflectance values of random faces that lie outside [0, 1]."""
    beta = (
        np.random.default_rng(0).standard_normal((RANDOM_FACES, model.layout.reflectance)).astype(np.float32)
    )
    faces = model.mean_reflectance.numpy().ravel() + beta @ model.reflectance_basis.flatten(0, 1).numpy().T
    return float(((faces < 0) | (faces > 1)).mean())


def main() -> None:
    """Print every figure of the model card that can be measured on the file alone."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OPEN_MODEL
    start = time.perf_counter()
    model = load_face_model(path)
    print(f"load time: {time.perf_counter() - start:.2f} s, file: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"vertices: {model.vertices}, triangles: {len(model.triangles)}, digest: {model.digest}")
    for name in ("shape", "expression", "reflectance"):
        print(name, basis_figures(getattr(model, f"{name}_basis").numpy()))
    print(f"reflectance values outside [0, 1]: {100 * share_outside(model):.1f} %")


if __name__ == "__main__":
    main()

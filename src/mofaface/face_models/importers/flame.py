"""FLAME 2020 and 2023 (.pkl or .npz), with or without a texture space (.npz).

FLAME poses neck, jaw and eyes by skinning, which is no linear model. The jaw, which opens the mouth, becomes three
expression modes, the derivative of skinning and pose correctives at rest times a usual angle; neck and eyes are frozen.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mofaface.face_models.importers.pickles import load_pickle
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

LICENCE = "FLAME's own licence, which its owner accepted (Max Planck Institute for Intelligent Systems)"
MM_PER_METRE = 1000.0
SHAPE = 300
JAW = 2  # joints: root, neck, jaw, left eye, right eye
# Usual angles of the jaw, radians (standard deviations): opening, sidewards, tilting. A choice, not a measurement.
JAW_SIGMA = np.array([0.12, 0.03, 0.02])


def read_flame(files: list[Path]) -> RawModel:
    """The model's file and, if given, its texture space, told apart by what they hold."""
    held = [_read(path) for path in files]
    models = [a for a in held if "v_template" in a]
    textures = [a for a in held if "tex_dir" in a]
    if len(models) != 1:
        raise ModelFileError(
            f"flame needs one file with v_template (generic_model.pkl or .npz); got {len(models)}"
        )
    return _assemble(models[0], textures[0] if textures else None)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".pkl":
        return load_pickle(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} is neither a readable .npz of plain arrays nor a .pkl ({error})"
        ) from error


def _assemble(a: dict[str, Any], texture: dict[str, Any] | None) -> RawModel:
    missing = [
        n for n in ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights") if n not in a
    ]
    if missing:
        raise ModelFileError(
            f"a FLAME model must hold {', '.join(missing)}; this one does not: is it FLAME 2020 or 2023?"
        )
    mean = np.asarray(a["v_template"], np.float64)
    directions = np.asarray(a["shapedirs"], np.float64)
    expression = np.concatenate([directions[..., SHAPE:], jaw_modes(a)], axis=-1)
    units = np.zeros((3, expression.shape[-1]))
    units[:, -3:] = np.diag(1 / JAW_SIGMA)
    colour = {} if texture is None else _colour(texture, np.asarray(a["f"]).astype(np.int64), len(mean))
    return RawModel(
        name="flame",
        version=f"{len(mean)} vertices",
        licence=LICENCE,
        mean_shape=mean * MM_PER_METRE,
        shape_basis=directions[..., :SHAPE] * MM_PER_METRE,
        expression_basis=expression * MM_PER_METRE,
        triangles=outward(mean, np.asarray(a["f"]).astype(np.int64)),
        unit_names=("jawOpenRadian", "jawSideRadian", "jawTiltRadian"),
        units=units,
        notes="FLAME; its last three expression modes are the jaw's rotation, linear; neck and eyes are frozen.",
        **colour,
    )


def jaw_modes(a: dict[str, Any]) -> Float[np.ndarray, "vertices 3 3"]:
    """Derivative of FLAME's vertices by the jaw's rotation vector at rest, times JAW_SIGMA, in metres.

    v = Σ_j w_j (R_j (v + P(R − I) − J) + J): at rest the derivative is w_jaw [e]× (v − J) + P vec([e]×).
    """
    mean, weight = np.asarray(a["v_template"], np.float64), np.asarray(a["weights"], np.float64)
    joint = (np.asarray(a["J_regressor"], np.float64) @ mean)[JAW]
    correctives = np.asarray(a["posedirs"], np.float64)[..., 9 * (JAW - 1) : 9 * JAW]
    modes = []
    for axis, sigma in zip(np.eye(3), JAW_SIGMA, strict=True):
        turn = np.cross(axis, mean - joint) * weight[:, JAW : JAW + 1]
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        modes.append(sigma * (turn + correctives @ cross.ravel()))
    return np.stack(modes, axis=-1)


def _colour(texture: dict[str, Any], triangles: np.ndarray, vertices: int) -> dict[str, Any]:
    """Reflectance of the vertices, read from the texture space at their place in the texture; BGR there, 0 to 255."""
    missing = [n for n in ("mean", "tex_dir", "vt", "ft") if n not in texture]
    if missing:
        raise ModelFileError(f"FLAME's texture space must hold {', '.join(missing)}")
    height, width = texture["mean"].shape[:2]
    uv = np.zeros((vertices, 2))
    uv[triangles.ravel()] = np.asarray(texture["vt"], np.float64)[
        np.asarray(texture["ft"]).astype(np.int64).ravel()
    ]
    column = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    return {
        "mean_reflectance": np.asarray(texture["mean"], np.float64)[row, column, ::-1] / 255,
        "reflectance_basis": np.asarray(texture["tex_dir"], np.float64)[row, column, ::-1] / 255,
        "uv": uv,
    }

"""From what a model's file says to a face model of this project: cropped, resampled, centred, with a skin.

Every step is a function from one raw model to the next; all of them are linear in the bases, so a code means the same
before and after.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mofaface.face_model import FaceModelArrays
from mofaface.face_models.importers.crop import crop, pieces
from mofaface.face_models.importers.landmarks import find_landmarks
from mofaface.face_models.importers.prior_reflectance import carried_landmarks, limited, prior_reflectance
from mofaface.face_models.importers.raw import RawModel
from mofaface.face_models.importers.resample import Remeshed, decimate, resample
from mofaface.face_models.open_model.frontal import frontal_part
from mofaface.face_models.surface import Surface

LOG = logging.getLogger(__name__)
# Modes of a file are its principal modes when no two have a larger cosine than this.
LARGEST_COSINE = 1e-2
JAW = slice(0, 17)
# The coarse mesh has this share of the vertices, as the open model's.
COARSE = 0.35


@dataclass(frozen=True)
class FinishConfig:
    """What becomes of a model's mesh and modes; None keeps what the file has."""

    crop: bool = True
    vertices: int | None = None
    shape_modes: int | None = None
    expression_modes: int | None = None
    reflectance_modes: int | None = None
    prior_modes: int = 80
    """Modes of reflectance that a model without any gets, if `reflectance_modes` says nothing."""
    name: str | None = None
    licence: str | None = None


def finish(
    raw: RawModel,
    open_model: FaceModelArrays,
    config: FinishConfig | None = None,
    landmarks: Int[np.ndarray, "68"] | None = None,
) -> FaceModelArrays:
    """Every array of the face model; `open_model` gives the outline of the crop and the skin of a model without one."""
    config, whole = config or FinishConfig(), open_model.subdivided()
    raw = principal_first(with_landmarks(raw, landmarks, whole), config)
    if config.crop:
        marks = whole.mean_shape[whole.landmarks_68]
        raw = remeshed(raw, crop(_float(raw.mean_shape), raw.triangles, _landmarks(raw), marks))
    if config.vertices is not None:
        raw = remeshed(raw, resample(_float(raw.mean_shape), raw.triangles, config.vertices, _landmarks(raw)))
    raw = centred(strongest_modes(raw, config))
    raw = with_reflectance(raw, whole, config)
    return assemble(raw, config)


def _landmarks(raw: RawModel) -> Int[np.ndarray, "68"]:
    assert raw.landmarks_68 is not None, "with_landmarks comes first"
    return raw.landmarks_68


def _float(values: np.ndarray) -> Float[np.ndarray, "*n"]:
    return values.astype(np.float64)


def with_landmarks(
    raw: RawModel, given: Int[np.ndarray, "68"] | None, open_model: FaceModelArrays
) -> RawModel:
    """The given landmarks, else the file's, else those that the detector sees on a picture of the average face.

    In a picture the jaw is an outline, which on a whole head lies at the ears: its points come from the open model.
    """
    if given is not None:
        return replace(raw, landmarks_68=given)
    if raw.landmarks_68 is not None:
        return raw
    surface = Surface(_float(raw.mean_shape), raw.triangles)
    found = find_landmarks(surface.positions, surface.triangles, raw.mean_reflectance)
    found[JAW] = carried_landmarks(surface, found, open_model)[JAW]
    note = "Landmarks: found by the detector on a picture of the average face; the jaw's by registration."
    return replace(raw, landmarks_68=found, notes=f"{raw.notes} {note}".strip())


def principal_first(raw: RawModel, config: FinishConfig) -> RawModel:
    """The first modes of bases that hold principal modes already, so that their coefficients keep the file's meaning."""
    if _cut(raw.shape_basis, config.shape_modes):
        raw = replace(raw, shape_basis=raw.shape_basis[..., : config.shape_modes])
    if _cut(raw.expression_basis, config.expression_modes):
        count = config.expression_modes
        units = None if raw.units is None else raw.units[:, :count]
        raw = replace(raw, expression_basis=raw.expression_basis[..., :count], units=units)
    if raw.reflectance_basis is not None and _cut(raw.reflectance_basis, config.reflectance_modes):
        raw = replace(raw, reflectance_basis=raw.reflectance_basis[..., : config.reflectance_modes])
    return raw


def _cut(basis: np.ndarray, count: int | None) -> bool:
    return count is not None and basis.shape[-1] > count and is_principal(basis)


def is_principal(basis: Float[np.ndarray, "vertices 3 modes"]) -> bool:
    """Whether the modes are orthogonal and fall in size: the first ones are then the best ones."""
    flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
    gram = flat.T @ flat
    size = np.sqrt(np.diag(gram)).clip(1e-12)
    cosine = np.abs(gram / np.outer(size, size) - np.eye(len(size)))
    return bool(cosine.max() <= LARGEST_COSINE and (np.diff(size) <= 1e-3 * size[:-1]).all())


def remeshed(raw: RawModel, mesh: Remeshed) -> RawModel:
    """The same model on another mesh: means and bases go through one matrix, landmarks keep their vertices."""

    def through(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        flat = values.reshape(len(values), -1)
        return (mesh.operator.astype(flat.dtype) @ flat).reshape(-1, *values.shape[1:])

    names = ("mean_shape", "shape_basis", "expression_basis", "mean_reflectance", "reflectance_basis", "uv")
    parts: dict[str, Any] = {name: through(getattr(raw, name)) for name in names}
    return replace(raw, **parts, triangles=mesh.triangles, landmarks_68=mesh.place[_landmarks(raw)])


def strongest_modes(raw: RawModel, config: FinishConfig) -> RawModel:
    """At most so many modes of each kind: the principal modes of what the file's modes span on the face."""
    shape, _ = strongest(raw.shape_basis, config.shape_modes)
    expression, turn = strongest(raw.expression_basis, config.expression_modes)
    units = raw.units if raw.units is None or turn is None else raw.units @ turn
    reflectance = raw.reflectance_basis
    if reflectance is not None:
        reflectance, _ = strongest(reflectance, config.reflectance_modes)
    return replace(
        raw, shape_basis=shape, expression_basis=expression, units=units, reflectance_basis=reflectance
    )


def strongest(
    basis: Float[np.ndarray, "vertices 3 modes"], count: int | None
) -> tuple[Float[np.ndarray, "vertices 3 kept"], Float[np.ndarray, "modes kept"] | None]:
    """The `count` principal modes of E c for c ~ N(0, 1), and the turn from old coefficients to new ones.

    E V are those modes, with V the eigenvectors of EᵀE: turned coefficients Vᵀc are N(0, 1) again.
    """
    if count is None or basis.shape[-1] <= count:
        return basis, None
    flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
    V = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :count]
    V = V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(count)])
    return (flat @ V).reshape(*basis.shape[:2], count), V


def centred(raw: RawModel) -> RawModel:
    """The same face with its origin between brows and jaw, in the middle of the face, at its mean depth."""
    points = raw.mean_shape[_landmarks(raw)]
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    origin = np.array([middle[0], middle[1], raw.mean_shape[:, 2].mean()])
    return replace(raw, mean_shape=raw.mean_shape - origin)


def with_reflectance(raw: RawModel, open_model: FaceModelArrays, config: FinishConfig) -> RawModel:
    """The model with the open model's reflectance as a prior, if it has none."""
    if raw.mean_reflectance is not None:
        return raw
    surface = Surface(_float(raw.mean_shape), raw.triangles)
    prior = limited(
        prior_reflectance(surface, _landmarks(raw), open_model),
        config.reflectance_modes or config.prior_modes,
    )
    LOG.info(prior.note)
    notes = f"{raw.notes} {prior.note}".strip()
    return replace(raw, mean_reflectance=prior.mean, reflectance_basis=prior.basis, notes=notes)


def assemble(raw: RawModel, config: FinishConfig) -> FaceModelArrays:
    """The face model's arrays, with regions and a coarse mesh."""
    assert raw.mean_reflectance is not None, "with_reflectance comes first"
    mean, triangles, marks = _float(raw.mean_shape), raw.triangles.astype(np.int64), _landmarks(raw)
    basis = raw.reflectance_basis
    coarse = decimate(mean, triangles, int(COARSE * len(mean)), marks)
    kept = np.flatnonzero(coarse.place >= 0)
    return FaceModelArrays(
        name=config.name or raw.name,
        version=raw.version,
        licence=config.licence or raw.licence,
        notes=raw.notes,
        mean_shape=mean.astype(np.float32),
        shape_basis=raw.shape_basis.astype(np.float32),
        expression_basis=raw.expression_basis.astype(np.float32),
        mean_reflectance=raw.mean_reflectance.astype(np.float32),
        reflectance_basis=(np.zeros((*mean.shape, 0)) if basis is None else basis).astype(np.float32),
        triangles=triangles,
        landmarks_68=marks.astype(np.int64),
        uv=None if raw.uv is None else raw.uv.astype(np.float32),
        coarse_vertices=kept,
        coarse_triangles=coarse.triangles,
        regions=regions(mean, triangles, marks),
        unit_names=tuple(raw.unit_names),
        units_expression=None if raw.units is None else raw.units.astype(np.float32),
    )


def regions(
    mean: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    landmarks: Int[np.ndarray, "68"],
) -> dict[str, Int[np.ndarray, "_"]]:
    """ "frontal", what is compared with photographs, and "skin", the piece that carries the landmarks."""
    piece = pieces(triangles, len(mean))
    skin = np.flatnonzero(np.isin(piece, piece[landmarks]))
    return {"frontal": frontal_part(mean, triangles), "skin": skin}

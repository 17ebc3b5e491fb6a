"""Errors of a network on synthetic faces whose codes are known, by the paper's protocol (section 7, figure 10)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from mofaface.camera import extrinsics, project
from mofaface.code import Code
from mofaface.corpus import CorpusSplit
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.metrics import light_error, point_distances, rotation_error
from mofaface.rotation import rotation_matrix

BATCH = 16


@dataclass(frozen=True)
class TruthErrors:
    """Errors against true codes, one value for each photograph that has one."""

    photographs: Int[np.ndarray, "known"]
    """Their numbers in the split."""
    errors: dict[str, Float[np.ndarray, "known"]]
    """By the names of METRICS: mm, RGB, degrees, pixels of the crop."""
    vertex_mm: Float[np.ndarray, "vertices"]
    """Mean error of every vertex, rotation kept."""
    vertex_turned_mm: Float[np.ndarray, "vertices"]
    """The same with the rotation removed."""


def true_codes(corpus: CorpusSplit) -> Float32[np.ndarray, "photos size"] | None:
    """The codes that synthetic crops were made of, packed; NaN in rows of photographs, None for those alone."""
    codes: np.ndarray | None = getattr(corpus, "codes", None)
    return None if codes is None or np.isnan(codes).any(1).all() else codes


def same_model(corpus: CorpusSplit, model: FaceModel) -> bool:
    """Whether true codes are coefficients of this face model; a corpus that does not tell is believed."""
    return corpus.code_model is None or corpus.code_model["digest"] == model.digest


@torch.no_grad()
def errors_on_truth(
    decoder: Decoder,
    codes: Float32[np.ndarray, "photos size"],
    truth: Float32[np.ndarray, "photos true_size"],
    progress: Callable[[int], None] = lambda photos: None,
) -> TruthErrors:
    """The errors of packed codes against true ones; ValueError where the truth is of another face model."""
    if truth.shape[1] != decoder.model.layout.size:
        raise ValueError(
            f"the corpus' true codes have {truth.shape[1]} values, the face model's have {decoder.model.layout.size}; "
            "evaluate with the model that the faces were made of"
        )
    known = np.flatnonzero(~np.isnan(truth).any(1))
    parts: list[dict[str, Tensor]] = []
    kept, turned = (torch.zeros(decoder.model.vertices, dtype=torch.float64) for _ in range(2))
    for first in range(0, len(known), BATCH):
        rows = known[first : first + BATCH]
        one, other = (_code(decoder, values[rows]) for values in (codes, truth))
        x, y = posed(decoder, one), posed(decoder, other)
        with_rotation, without = point_distances(x, y), point_distances(x, y, turned=True)
        parts.append(_errors(decoder, one, other, x, y, with_rotation, without))
        kept += with_rotation.double().sum(0).cpu()
        turned += without.double().sum(0).cpu()
        progress(len(rows))
    errors = {name: torch.cat([p[name] for p in parts]).double().cpu().numpy() for name in parts[0]}
    return TruthErrors(known, errors, (kept / len(known)).numpy(), (turned / len(known)).numpy())


def posed(decoder: Decoder, code: Code) -> Float[Tensor, "batch vertices 3"]:
    """The vertices of codes in camera space, mm; without normals and colours, which take most of a decoder's time."""
    R, t = extrinsics(rotation_matrix(code.rotation), code.translation, decoder.camera)
    return decoder.model.geometry(code.alpha, code.delta) @ R.mT + t[:, None]


def _errors(
    decoder: Decoder, one: Code, other: Code, x: Tensor, y: Tensor, with_rotation: Tensor, without: Tensor
) -> dict[str, Tensor]:
    model, marks = decoder.model, decoder.model.landmarks_46
    uv, uv_true = (project(points[:, marks], decoder.camera) for points in (x, y))
    reflectance = model.reflectance(one.beta) - model.reflectance(other.beta)
    return {
        "geometry_mm": with_rotation.mean(-1),
        "geometry_face_mm": with_rotation[:, model.frontal].mean(-1),
        "geometry_turned_mm": without.mean(-1),
        "truth_landmark_px": (uv - uv_true).norm(dim=-1).mean(-1),
        "reflectance_rms": (reflectance[:, model.frontal] ** 2).mean((1, 2)).sqrt(),
        "light_rms": light_error(one.gamma, other.gamma),
        "rotation_deg": rotation_error(
            rotation_matrix(one.rotation.double()), rotation_matrix(other.rotation.double())
        ),
    }


def _code(decoder: Decoder, values: Float32[np.ndarray, "batch size"]) -> Code:
    return decoder.model.layout.unpack(torch.from_numpy(values).to(decoder.model.mean_shape))

"""What stands on the decoder, measured: fits of photographs, and the optimiser of the paper's network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.bench import shortest
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.detection import detect_faces
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.face_model import FaceModel
from mofaface.facemesh import find_mesh
from mofaface.fit import Fit, FitConfig
from mofaface.fit_photo import PhotoFitter
from mofaface.kernels.adadelta import Adadelta
from mofaface.landmarks import LANDMARKS_46
from mofaface.photo import read_photo


@dataclass(frozen=True)
class FitRow:
    """Fits of some photographs whose matrices are made from so many vertices; means over the photographs."""

    sample: int | None
    seconds: float
    """For 50 steps of the default stages on the photograph."""
    whole: float
    """Seconds for a whole fit, its steps on landmarks alone included."""
    steps: float
    """Steps of a whole fit."""
    pixels: float
    """Distance of the landmarks from the detected ones, by confidence, pixels of the crop."""
    mean: float
    """Final energy over that of the fit with all vertices."""
    worst: float


@dataclass(frozen=True)
class _Subject:
    """A photograph ready to be fitted."""

    image: Float[Tensor, "1 3 height width"]
    places: Float[Tensor, "1 46 2"]
    confidence: Float[Tensor, "1 46"]


def measure_fits(
    model: FaceModel, photos: Sequence[str], samples: Sequence[int | None] = (None, 1500, 600, 300)
) -> list[FitRow]:
    """Fits with the paper's landmark weight to the largest face of each photo; `samples` begins with None."""
    fitter = PhotoFitter(model)
    subjects = [_subject(name) for name in photos]
    _timed_fit(fitter, subjects[0], FitConfig())
    found = torch.tensor(
        [[_measure_fit(fitter, subject, sample) for sample in samples] for subject in subjects],
        dtype=torch.float64,
    )
    energy, *means = found[..., 0], *found.mean(0)[:, 1:].unbind(-1)
    ratio = energy / energy[:, :1]
    rows = torch.stack((*means, ratio.mean(0), ratio.max(0).values), -1).tolist()
    return [FitRow(sample, *row) for sample, row in zip(samples, rows, strict=True)]


def _subject(name: str) -> _Subject:
    photo = read_photo(name)
    box = detect_faces(photo).faces[0]
    crop = cut_crop(photo, box)
    mesh, inner = find_mesh(photo, box), list(LANDMARKS_46)
    places = torch.from_numpy(crop.photo_from_crop.inverse().apply(mesh.landmarks_68[inner]))[None]
    return _Subject(crops_to_tensor([crop]), places, torch.from_numpy(mesh.confidence_68[inner])[None])


def _measure_fit(fitter: PhotoFitter, subject: _Subject, sample: int | None) -> tuple[float, ...]:
    """Final energy, then `seconds` to `pixels` of a FitRow."""
    config = FitConfig(sample=sample)
    found, whole = _timed_fit(fitter, subject, config)
    # Steps on 46 landmarks alone take next to no time and shall not be counted as steps on the photograph.
    landmarks, before = _timed_fit(fitter, subject, replace(config, stages=()))
    seconds = 50 * (whole - before) / (found.iterations - landmarks.iterations)
    with torch.no_grad():
        seen = fitter.decoder(found.code).uv_crop[:, fitter.decoder.model.landmarks_46]
    distance = (seen - subject.places).norm(dim=-1)
    pixels = float((subject.confidence * distance).sum() / subject.confidence.sum())
    return found.energy, seconds, whole, found.iterations, pixels


def _timed_fit(fitter: PhotoFitter, subject: _Subject, config: FitConfig) -> tuple[Fit, float]:
    start = time.perf_counter()
    found = fitter.fitter(subject.image, fitter.weights, subject.places, subject.confidence, config=config)
    return found, time.perf_counter() - start


@dataclass(frozen=True)
class StepTimes:
    """A training step of AlexNet at batch 5, milliseconds."""

    network: float
    """Forward and backward pass."""
    torch_adadelta: float
    adadelta: float


def measure_alexnet(model: FaceModel) -> StepTimes:
    """The paper's network and optimiser."""
    network = build_encoder(EncoderConfig(backbone="alexnet"), model.layout, None).train()
    image = torch.rand(5, 3, 240, 240)

    def both_ways() -> None:
        network.zero_grad(set_to_none=True)
        model.layout.pack(network(image)).sum().backward()

    passes = shortest(both_ways, 5)
    moving = [p for p in network.parameters() if p.grad is not None]
    steps = [shortest(kind(moving, lr=0.1, rho=0.95).step, 5) for kind in (torch.optim.Adadelta, Adadelta)]
    return StepTimes(1e3 * passes, 1e3 * steps[0], 1e3 * steps[1])

"""What stands on the decoder, measured: fits of photographs, and the optimiser of the paper's network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mofaface.bench import shortest
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.detection import detect_faces
from mofaface.encoders import EncoderConfig, build_encoder
from mofaface.face_model import FaceModel
from mofaface.facemesh import find_mesh
from mofaface.fit import FitConfig
from mofaface.fit_photo import PhotoFitter
from mofaface.kernels.adadelta import Adadelta
from mofaface.landmarks import LANDMARKS_46
from mofaface.photo import read_photo


@dataclass(frozen=True)
class FitRow:
    """Fits of some photographs whose steps use so many vertices."""

    sample: int | None
    seconds: float
    """For 50 steps of the default stages, mean over photographs."""
    mean: float
    """Final energy, of all vertices, over that of the fit with all of them."""
    worst: float


def measure_fits(
    model: FaceModel, photos: Sequence[str], samples: Sequence[int | None] = (None, 4000, 1500, 600)
) -> list[FitRow]:
    """Fits with the paper's landmark weight to the largest face of each photo; `samples` begins with None."""
    fitter = PhotoFitter(model)
    results = []
    for name in photos:
        photo = read_photo(name)
        box = detect_faces(photo).faces[0]
        crop = cut_crop(photo, box)
        image, mesh, inner = crops_to_tensor([crop]), find_mesh(photo, box), list(LANDMARKS_46)
        places = torch.from_numpy(crop.photo_from_crop.inverse().apply(mesh.landmarks_68[inner]))[None]
        confidence = torch.from_numpy(mesh.confidence_68[inner])[None]
        for sample in samples:
            start = time.perf_counter()
            config = FitConfig(sample=sample)
            found = fitter.fitter(image, fitter.weights, places, confidence, config=config)
            results.append((found.energy, 50 * (time.perf_counter() - start) / found.iterations))
    energy, seconds = (
        torch.tensor(results, dtype=torch.float64).reshape(len(photos), len(samples), 2).unbind(-1)
    )
    ratio = energy / energy[:, :1]
    return [
        FitRow(sample, seconds[:, k].mean().item(), ratio[:, k].mean().item(), ratio[:, k].max().item())
        for k, sample in enumerate(samples)
    ]


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

"""Every held-out photograph of a corpus, measured once: errors, codes, and what the photograph is like.

Only what the figures need is decoded: the terms of the loss come from the compiled kernel where it was built, which
sees every vertex but keeps none.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.code import Code
from mofaface.corpus import CorpusSplit
from mofaface.decoder import AMBIENT
from mofaface.face_model import FaceModel
from mofaface.kernels import loss_terms
from mofaface.landmarks import LANDMARKS_46
from mofaface.metrics import INNER, box_size, outer_eye_distance
from mofaface.sampling import sample_bilinear
from mofaface.skin_tone import ita

BATCH = 32
# Corners of a cheek in the 68 landmarks: lower lid, wing of the nose, corner of the mouth, jaw.
CHEEKS = ((41, 31, 48, 3), (46, 35, 54, 13))
CHEEK_GRID = np.linspace(0.25, 0.75, 8)
CHEEK_REGIONS = ("right_cheek", "left_cheek")
Refine = Callable[[Code, Tensor], Code]


@dataclass(frozen=True)
class Measured:
    """What was measured on the photographs of a split, one value each."""

    errors: dict[str, Float[np.ndarray, "photos"]]
    """By the names of METRICS; lengths in pixels of the crop, shares of a length, or RGB distance."""
    traits: dict[str, Float[np.ndarray, "photos"]]
    """brightness and directionality of the fitted light; skin tone (ITA, degrees) of photo and of reflectance."""
    codes: Float32[np.ndarray, "photos size"]
    """The network's answers, packed."""


@torch.no_grad()
def measure(
    autoencoder: Autoencoder,
    corpus: CorpusSplit,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda photos: None,
    refine: Refine | None = None,
) -> Measured:
    """The errors of every photograph of a split, against the corpus' landmarks; `progress` hears of each batch.

    `refine` gives the codes that are measured from the network's and the crops.
    """
    model = autoencoder.decoder.model
    device = next(autoencoder.parameters()).device
    terms = loss_terms(autoencoder.decoder, model.landmarks_68)
    frontal, skin = float(model.frontal.sum()), skin_vertices(model)
    errors: list[dict[str, Tensor]] = []
    traits: list[dict[str, Tensor]] = []
    codes: list[Tensor] = []
    for image, places in _batches(corpus, batch):
        image, places = image.to(device), places.to(device)
        code = autoencoder.encoder(image)
        code = code if refine is None else refine(code, image)
        found = terms(code, image)
        photometric = found.photo * frontal / found.front.clamp(min=1)
        errors.append(landmark_figures(found.places, places) | {"photometric": photometric})
        traits.append(light_figures(code) | skin_figures(image, places, code, model, skin))
        codes.append(model.layout.pack(code).float())
        progress(len(image))
    return Measured(_joined(errors), _joined(traits), torch.cat(codes).cpu().numpy())


def landmark_figures(
    seen: Float[Tensor, "batch 68 2"], truth: Float[Tensor, "batch 68 2"]
) -> dict[str, Float[Tensor, "batch"]]:
    """Mean distances of projected from given landmarks: in pixels of the crop, and over two sizes of the face."""
    distance = (seen - truth).norm(dim=-1)
    used = distance[:, list(LANDMARKS_46)].mean(-1)
    return {
        "landmark_px": used,
        "landmark_inner_px": distance[:, INNER].mean(-1),
        "landmark_68_px": distance.mean(-1),
        "landmark_eyes": used / outer_eye_distance(truth),
        "landmark_box": distance.mean(-1) / box_size(truth),
    }


def light_figures(code: Code) -> dict[str, Float[Tensor, "batch"]]:
    """Brightness: mean shading of a white sphere. Directionality: what the light's main direction adds, over that."""
    grey = code.gamma.mean(-1)
    level = grey[:, 0] + AMBIENT
    # √3 is the largest value of the harmonics of the first band.
    return {
        "brightness": level,
        "directionality": 3**0.5 * grey[:, 1:4].norm(dim=-1) / level.clamp(min=0.05),
    }


def skin_figures(
    image: Float[Tensor, "batch 3 height width"],
    places: Float[Tensor, "batch 68 2"],
    code: Code,
    model: FaceModel,
    skin: Int[Tensor, "skin"],
) -> dict[str, Float[Tensor, "batch"]]:
    """Skin tone (ITA, degrees) of the photo's cheek, its light included, and of the reflectance that the network sees."""
    photo = sample_bilinear(image, cheek_places(places).to(image)).median(1).values
    modes = model.reflectance_basis[skin].flatten(0, 1)
    own = (model.mean_reflectance[skin].flatten() + code.beta @ modes.mT).unflatten(-1, (-1, 3))
    reflectance = own.median(1).values.clamp(0, 1)
    return {"ita_photo": _ita(photo), "ita_reflectance": _ita(reflectance)}


def cheek_places(places: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 64 2"]:
    """A grid over the cheek that shows more of itself, pixels; by the given landmarks, so that no network chooses it."""
    s, t = (torch.from_numpy(a.ravel()).to(places)[:, None] for a in np.meshgrid(CHEEK_GRID, CHEEK_GRID))
    weights = torch.cat(((1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t), 1)
    corners = torch.stack([places[:, list(cheek)] for cheek in CHEEKS])
    first, second = corners[:, :, 2] - corners[:, :, 0], corners[:, :, 3] - corners[:, :, 1]
    area = (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]).abs()
    wider = (area[1] > area[0]).long()
    return weights @ corners[wider, torch.arange(len(places), device=places.device)]


def skin_vertices(model: FaceModel) -> Int[Tensor, "skin"]:
    """The vertices of the cheeks; of the frontal part for a model that names none."""
    named = [model.regions[name] for name in CHEEK_REGIONS if name in model.regions]
    return (torch.cat(named) if named else model.frontal.nonzero()[:, 0]).to(model.frontal.device)


def _ita(colours: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    return torch.tensor([ita(c) for c in colours.double().cpu().numpy()], dtype=torch.float64)


def _batches(corpus: CorpusSplit, batch: int):
    """Pictures and landmarks, batch after batch; the next one is read while one is measured."""

    def read(first: int) -> tuple[Tensor, Tensor]:
        numbers = range(first, min(first + batch, len(corpus)))
        pixels = torch.from_numpy(np.stack([corpus.image(i) for i in numbers]))
        return pixels.permute(0, 3, 1, 2).float() / 255, torch.from_numpy(corpus.landmarks[list(numbers)])

    starts = range(0, len(corpus), batch)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for first in starts:
            ready = coming.result()
            coming = reader.submit(read, min(first + batch, len(corpus) - 1))
            yield ready


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    return {name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]}

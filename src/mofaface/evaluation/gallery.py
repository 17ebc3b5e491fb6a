"""A sheet of many faces that differ, the picture by which people judge a network. It shows the photographs."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.autoencoder import Autoencoder
from mofaface.code import Code
from mofaface.corpus import CorpusSplit
from mofaface.crop import crops_to_tensor
from mofaface.evaluation.photographs import Refine
from mofaface.photo import PhotoError, PhotoSource, read_photo
from mofaface.pictures import Picture, sheet_of_faces
from mofaface.reconstruct import Reconstructor
from mofaface.report import NoFaceError
from mofaface.training.validation import spread

BATCH = 32
ACROSS, TILE, BETWEEN = 3, 200, 24
# So many faces are looked at for each one that is shown.
CANDIDATES = 8
# What is farther off is an outlier, and a sheet of outliers shows a network's failures alone.
FARTHEST = 2.0


def crops_of_corpus(corpus: CorpusSplit, count: int) -> Float[Tensor, "photos 3 240 240"]:
    """Crops to choose `count` from, evenly over the split and so over its sources."""
    numbers = spread(corpus, CANDIDATES * count)
    return torch.from_numpy(np.stack([corpus.image(i) for i in numbers])).permute(0, 3, 1, 2).float() / 255


def crops_of_photos(
    reconstructor: Reconstructor, photos: Iterable[PhotoSource]
) -> Float[Tensor, "photos 3 240 240"]:
    """The largest face of each photo; those without one are left out, ValueError where all are."""
    crops = []
    for photo in photos:
        try:
            crops.append(reconstructor.find(read_photo(photo)).crops[0])
        except (PhotoError, NoFaceError):
            continue
    if not crops:
        raise ValueError("none of the photos shows a face that is found; give others")
    return crops_to_tensor(crops)


@torch.no_grad()
def gallery(
    autoencoder: Autoencoder,
    crops: Float[Tensor, "photos 3 240 240"],
    count: int,
    refine: Refine | None = None,
) -> Picture:
    """`count` varied faces: photo, overlay, shape, reflectance, and the light on a ball."""
    decoder = autoencoder.decoder
    device = next(autoencoder.parameters()).device
    codes = [decoder.model.layout.pack(autoencoder.encoder(c.to(device))) for c in crops.split(BATCH)]
    packed = torch.cat(codes)
    chosen = varied(traits(decoder.model.layout.unpack(packed)), count)
    columns = []
    for numbers in (chosen[k::ACROSS] for k in range(min(ACROSS, len(chosen)))):
        code = decoder.model.layout.unpack(packed[numbers])
        code = code if refine is None else refine(code, crops[numbers].to(device))
        face = decoder(code)
        columns.append(sheet_of_faces(crops[numbers], face, decoder.model, code.gamma, across=1, tile=TILE))
    return beside(columns)


def traits(code: Code) -> Float[np.ndarray, "faces traits"]:
    """By what faces are told apart: turn, light, and the main modes of shape, expression and skin; standardised."""
    light = code.gamma.mean(-1)[:, :4]
    parts = (code.rotation, light, code.alpha[:, :2], code.delta[:, :3], code.beta[:, :2])
    values = torch.cat(parts, -1).double().cpu().numpy()
    spread_of_each = values.std(0)
    values = np.divide(
        values - values.mean(0), spread_of_each, out=np.zeros_like(values), where=spread_of_each > 1e-9
    )
    return values.clip(-FARTHEST, FARTHEST)


def varied(places: Float[np.ndarray, "faces traits"], count: int) -> list[int]:
    """Numbers of at most `count` faces, in order: the most ordinary one, then always the one farthest from all chosen."""
    chosen = [int((places**2).sum(1).argmin())]
    nearest = ((places - places[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(places)):
        nearest[chosen] = -1.0  # nobody twice, even where all faces are alike
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((places - places[chosen[-1]]) ** 2).sum(1))
    return sorted(chosen)


def beside(columns: Sequence[Picture]) -> Picture:
    """Pictures beside each other on white, their tops level."""
    height = max(len(column) for column in columns)
    parts = []
    for column in columns:
        whole = np.full((height, column.shape[1], 3), 255, np.uint8)
        whole[: len(column)] = column
        parts += [whole, np.full((height, BETWEEN, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], 1)

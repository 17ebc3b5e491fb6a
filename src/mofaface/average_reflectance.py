"""A face model with the average reflectance of photographs in place of its own.

What unsupervised training aligns is the average face's pattern of light and dark; a drawn one has its darkest band at
the brows where photographs have it at the eyes, and faces slide (docs/results.md).
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from mofaface.autoencoder import Autoencoder
from mofaface.corpus import CorpusSplit
from mofaface.decoder import front_facing
from mofaface.face_model import FaceModelArrays
from mofaface.sampling import sample_bilinear
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION

BATCH = 16
# Only heads turned less than this, radians, show both sides well.
LARGEST_YAW = 0.15
# Darker shading would divide by next to nothing, brighter skin than white is a highlight.
DARKEST_SHADING, BRIGHTEST = 0.2, 1.2
# A vertex seen in fewer photographs keeps the model's own colour.
FEWEST_VIEWS = 20


@torch.no_grad()
def average_reflectance(
    autoencoder: Autoencoder, corpus: CorpusSplit, photos: int, seed: int = 0
) -> Float[np.ndarray, "vertices 3"]:
    """Mean of photograph over shading at every vertex, RGB, over at most `photos` frontal photographs."""
    decoder = autoencoder.decoder
    frontal = np.flatnonzero(np.abs(corpus.yaw) < LARGEST_YAW)
    chosen = np.random.default_rng(seed).permutation(frontal)[:photos].tolist()
    total, views = torch.zeros(decoder.model.vertices, 3), torch.zeros(decoder.model.vertices, 1)
    for first in range(0, len(chosen), BATCH):
        image = make_batch(corpus, chosen[first : first + BATCH], NO_AUGMENTATION, [seed]).image
        _, face = autoencoder(image)
        unlit = sample_bilinear(image, face.uv_crop) / face.shading.clamp(min=DARKEST_SHADING)
        seen = front_facing(face.x_camera, face.n_camera)[..., None].float()
        total += (unlit.clamp(0, BRIGHTEST) * seen).sum(0)
        views += seen.sum(0)
    mean = torch.where(views >= FEWEST_VIEWS, total / views.clamp(min=1), decoder.model.mean_reflectance)
    return mean.numpy()


def with_mean_reflectance(
    arrays: FaceModelArrays, mean: Float[np.ndarray, "vertices 3"], version: str
) -> FaceModelArrays:
    """The model with this mean, made symmetric where the model knows its mirror, under a version of its own."""
    if arrays.mirror is not None:
        mean = 0.5 * (mean + mean[arrays.mirror])
    return replace(arrays, mean_reflectance=mean.astype(np.float32), version=version)

"""How a network does on held-out people while it learns."""

import numpy as np
import torch
from jaxtyping import UInt8

from mofaface.autoencoder import Autoencoder
from mofaface.corpus import CorpusSplit
from mofaface.evaluation.truth import errors_on_truth, same_model, true_codes
from mofaface.metrics import landmark_error, photometric_error
from mofaface.pictures import sheet_of_faces
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION

BATCH = 32
FACES = 12


def spread(corpus: CorpusSplit, count: int) -> list[int]:
    """At most `count` numbers of photographs, evenly over the split and so over its sources."""
    return sorted(set(np.linspace(0, len(corpus) - 1, min(count, len(corpus))).round().astype(int).tolist()))


@torch.no_grad()
def validate(autoencoder: Autoencoder, corpus: CorpusSplit, count: int) -> dict[str, float]:
    """Landmark error (46 points, pixels of the crop) and photometric error, means over photographs.

    Of faces that were rendered from the same face model also the errors against their codes, by the names of METRICS;
    with a coarse mesh its vertices are compared.
    """
    device = next(autoencoder.parameters()).device
    model = autoencoder.decoder.model
    vertices = model.landmarks_46
    pixels, colours, codes = [], [], []
    chosen = spread(corpus, count)
    for first in range(0, len(chosen), BATCH):
        batch = make_batch(corpus, chosen[first : first + BATCH], NO_AUGMENTATION, [0]).to(device)
        code, face = autoencoder(batch.image)
        codes.append(model.layout.pack(code).float().cpu())
        pixels.append(landmark_error(face, vertices, batch.landmarks))
        colours.append(photometric_error(batch.image, face))
    means = {"landmark_px": torch.cat(pixels).mean().item(), "photometric": torch.cat(colours).mean().item()}
    truth = true_codes(corpus) if same_model(corpus, model) else None
    if truth is None or np.isnan(truth[chosen]).any(1).all():
        return means
    errors = errors_on_truth(autoencoder.decoder, torch.cat(codes).numpy(), truth[chosen]).errors
    return means | {name: float(values.mean()) for name, values in errors.items()}


@torch.no_grad()
def pictures(autoencoder: Autoencoder, corpus: CorpusSplit) -> UInt8[np.ndarray, "height width 3"]:
    """A sheet of held-out crops, each beside what the network makes of it."""
    device = next(autoencoder.parameters()).device
    batch = make_batch(corpus, spread(corpus, FACES), NO_AUGMENTATION, [0]).to(device)
    code, face = autoencoder(batch.image)
    return sheet_of_faces(batch.image.cpu(), face, autoencoder.decoder.model, code.gamma)

"""Batches of a run: which photographs an iteration sees, and how they are changed.

Everything is a function of the seed and the iteration, so a resumed run sees exactly what it would have seen.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mofaface.corpus import CorpusSplit
from mofaface.crop import CROP_SIZE
from mofaface.landmarks import LANDMARK_GROUPS, LANDMARKS_46, MIRROR_68
from mofaface.training.config import Augmentation

# Share of the pixels across that a blurred crop keeps.
RESOLUTIONS = (0.25, 0.9)
ALL = slice(None)


@dataclass(frozen=True)
class Batch:
    """Crops with the landmarks that were detected in them."""

    image: Float[Tensor, "batch 3 240 240"]
    """RGB in [0, 1]."""
    landmarks: Float[Tensor, "batch 46 2"]
    """Pixels of the crop."""
    confidence: Float[Tensor, "batch 46"]
    """0 to 1 for each landmark."""
    contour: Float[Tensor, "batch 17 2"]
    """The jaw's points, pixels of the crop."""
    contour_confidence: Float[Tensor, "batch 17"]
    """0 to 1 for each of them."""
    codes: Float[Tensor, "rows size"] = field(default_factory=lambda: torch.empty(0, 0))
    """True codes of rendered faces; no rows for photographs, and where crops are moved, whose codes would change."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class Change:
    """How one crop is changed, in this order."""

    mirrored: bool
    A: Float[np.ndarray, "2 2"]
    """Where a place goes after that: A @ place + b, pixels of the crop."""
    b: Float[np.ndarray, "2"]
    gain: Float[np.ndarray, "3"]
    """Factors of red, green and blue."""
    resolution: int
    """How many pixels across are left; the crop's size where it is not blurred."""

    @property
    def moves(self) -> bool:
        """Whether any place goes elsewhere."""
        return bool((np.eye(2) != self.A).any() or self.b.any())


def chosen(count: int, batch: int, seed: int, iteration: int) -> list[int]:
    """The numbers of the photographs that an iteration sees: every epoch is a new permutation of all."""
    first = iteration * batch
    epochs = range(first // count, (first + batch - 1) // count + 1)
    order = np.concatenate([_order(count, seed, epoch) for epoch in epochs])
    start = first - epochs[0] * count
    return order[start : start + batch].tolist()


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Int[np.ndarray, "photos"]:
    """The permutation of an epoch, kept: making it for every iteration would take longer than drawing the rest."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def draw_changes(how: Augmentation, rng: np.random.Generator, count: int) -> list[Change]:
    """What happens to the crops of a batch, at random."""

    def normal(*shape: int) -> Float[np.ndarray, "*shape"]:
        return rng.normal(size=(count, *shape)).clip(-2, 2)

    shift, scale, turn = normal(2) * how.shift, np.exp(normal() * how.scale), normal() * how.turn
    gain = np.exp(rng.normal(size=(count, 1)) * how.colour + rng.normal(size=(count, 3)) * how.colour / 3)
    mirrored, blurred = rng.random(count) < 0.5, rng.random(count) < how.blur
    resolution = np.where(blurred, (CROP_SIZE * rng.uniform(*RESOLUTIONS, count)).round(), CROP_SIZE)
    c, s, h = scale * np.cos(turn), scale * np.sin(turn), CROP_SIZE / 2
    A = np.stack((c, -s, s, c), -1).reshape(count, 2, 2)
    b = shift + h - A @ (h, h)
    return [
        Change(how.flip and bool(mirrored[i]), A[i], b[i], gain[i], int(resolution[i])) for i in range(count)
    ]


def make_batch(
    corpus: CorpusSplit, indices: list[int], augmentation: Augmentation, seed: list[int], part: slice = ALL
) -> Batch:
    """The photographs of these numbers, augmented with random numbers of this seed; or `part` of them.

    For one that cannot be decoded comes the next one of the corpus that can.
    """
    images, points, sure, found = [], [], [], []
    changes = draw_changes(augmentation, np.random.default_rng(seed), len(indices))
    for number, change in zip(indices[part], changes[part], strict=True):
        i, image = corpus.sound_image(number)
        found.append(i)
        image, landmarks = change_crop(image, corpus.landmarks[i], change)
        images.append(image)
        points.append(landmarks)
        sure.append(corpus.confidence[i][list(MIRROR_68)] if change.mirrored else corpus.confidence[i])
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    places = torch.from_numpy(np.stack(points))
    confidence = torch.from_numpy(np.stack(sure).astype(np.float32))
    inner, jaw = list(LANDMARKS_46), list(LANDMARK_GROUPS["jaw"])
    codes = torch.from_numpy(true_codes(corpus, augmentation)[found])
    return Batch(pixels, places[:, inner], confidence[:, inner], places[:, jaw], confidence[:, jaw], codes)


def true_codes(corpus: CorpusSplit, augmentation: Augmentation) -> Float[np.ndarray, "photos size"]:
    """The codes of rendered faces; of size 0 for photographs, and where crops are moved."""
    if corpus.codes is None or augmentation.moves:
        return np.empty((len(corpus), 0), np.float32)
    return corpus.codes


def change_crop(
    image: UInt8[np.ndarray, "240 240 3"], landmarks: Float[np.ndarray, "68 2"], change: Change
) -> tuple[UInt8[np.ndarray, "240 240 3"], Float[np.ndarray, "68 2"]]:
    """A crop and its landmarks, changed on the CPU; device_corpus.py does the same to a whole batch in torch."""
    if change.mirrored:
        image = image[:, ::-1]
        landmarks = (landmarks * [-1, 1] + [CROP_SIZE, 0])[list(MIRROR_68)]
    if change.moves:
        # OpenCV counts pixel centres from 0, we from 0.5.
        M = np.column_stack((change.A, change.b + change.A @ (0.5, 0.5) - 0.5))
        image = cv2.warpAffine(
            np.ascontiguousarray(image), M, (CROP_SIZE, CROP_SIZE), borderMode=cv2.BORDER_REPLICATE
        )
        landmarks = landmarks @ change.A.T + change.b
    if (change.gain != 1).any():
        table = np.clip(np.arange(256)[:, None] * change.gain, 0, 255).round().astype(np.uint8)
        image = cv2.LUT(np.ascontiguousarray(image), table[None])
    if change.resolution < CROP_SIZE:
        # The size, not a factor: OpenCV cuts the part of a pixel that a factor leaves over, which moves the picture.
        small = cv2.resize(image, (change.resolution,) * 2, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(image), np.asarray(landmarks, np.float32)


def batches(
    corpus: CorpusSplit,
    batch: int,
    augmentation: Augmentation,
    seed: int,
    first: int,
    last: int,
    part: slice = ALL,
) -> Iterator[Batch]:
    """The batches of iterations `first` to `last` − 1, or `part` of each; the next ones are prepared while one is used."""

    def prepare(iteration: int) -> Batch:
        return make_batch(
            corpus, chosen(len(corpus), batch, seed, iteration), augmentation, [seed, iteration], part
        )

    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(prepare, i) for i in range(first, min(first + 2, last))]
        for iteration in range(first, last):
            ready = ahead.pop(0).result()
            if iteration + 2 < last:
                ahead.append(pool.submit(prepare, iteration + 2))
            yield ready

"""A corpus in a device's memory, decoded, and the augmentation of whole batches there.

The random numbers are those of batches.py and the changes are the same: moves are bilinear, a lower resolution is
OpenCV's own area and linear filters as a matrix. OpenCV rounds to 8 bits after each of
them and moves to a 32nd of a pixel, torch does not.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from mofaface.corpus import CorpusSplit
from mofaface.crop import CROP_SIZE
from mofaface.landmarks import LANDMARK_GROUPS, LANDMARKS_46, MIRROR_68
from mofaface.training.batches import RESOLUTIONS, Batch, Change, chosen, draw_changes, true_codes
from mofaface.training.config import NO_AUGMENTATION, Augmentation, TrainConfig

log = logging.getLogger("mofaface")
# Crops that are decoded before they are copied.
AT_ONCE = 256
# What is left for weights, their state and a batch: VGG-Face with AdaDelta takes about 4 GB.
RESERVED_BYTES = 4 << 30
SMALLEST = round(CROP_SIZE * RESOLUTIONS[0])
UNCHANGED = Change(False, np.eye(2), np.zeros(2), np.ones(3), CROP_SIZE)


@dataclass(frozen=True)
class Draw:
    """What an iteration sees, as numbers: one tensor, so that a single small copy takes it to the device."""

    numbers: Float[Tensor, "batch 12"]
    """For each crop its number in the corpus, then the parts of its `Change`, float64."""

    @classmethod
    def of(cls, photos: list[int], changes: list[Change]) -> "Draw":
        """The photographs of these numbers with these changes."""
        rows = [
            (photo, c.resolution, c.mirrored, *c.A.flat, *c.b, *c.gain)
            for photo, c in zip(photos, changes, strict=True)
        ]
        return cls(torch.tensor(rows, dtype=torch.float64))

    def to(self, device: torch.device | str) -> "Draw":
        """The same numbers on a device."""
        return Draw(self.numbers.to(device))

    @property
    def photos(self) -> Int[Tensor, "batch"]:
        """Numbers of the crops in the corpus."""
        return self.numbers[:, 0].long()

    @property
    def resolutions(self) -> Int[Tensor, "batch"]:
        """`Change.resolution` of each."""
        return self.numbers[:, 1].long()

    @property
    def mirrored(self) -> Bool[Tensor, "batch"]:
        """`Change.mirrored` of each."""
        return self.numbers[:, 2] != 0

    @property
    def A(self) -> Float[Tensor, "batch 2 2"]:
        """`Change.A` of each."""
        return self.numbers[:, 3:7].unflatten(1, (2, 2))

    @property
    def b(self) -> Float[Tensor, "batch 2"]:
        """`Change.b` of each."""
        return self.numbers[:, 7:9]

    @property
    def gain(self) -> Float[Tensor, "batch 3"]:
        """`Change.gain` of each."""
        return self.numbers[:, 9:]


def draws(
    count: int, batch: int, augmentation: Augmentation, seed: int, first: int, last: int
) -> Iterator[Draw]:
    """What iterations `first` to `last` − 1 see of `count` photographs: the numbers that `batches` draws."""
    for iteration in range(first, last):
        if augmentation == NO_AUGMENTATION:
            changes = [UNCHANGED] * batch
        else:
            changes = draw_changes(augmentation, np.random.default_rng([seed, iteration]), batch)
        yield Draw.of(chosen(count, batch, seed, iteration), changes)


class DeviceCorpus:
    """All crops of a split as uint8 on a device, with landmarks and confidences."""

    def __init__(self, corpus: CorpusSplit, augmentation: Augmentation, device: torch.device | str):
        """Decodes every crop, on all cores."""
        self.augmentation = augmentation
        self.images = torch.empty(len(corpus), 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device)
        with ThreadPoolExecutor() as pool:
            for part in torch.arange(len(corpus)).split(AT_ONCE):
                images = np.stack(list(pool.map(corpus.image, part.tolist())))
                self.images[part[0] : part[-1] + 1] = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.landmarks = torch.from_numpy(corpus.landmarks).to(device)
        self.confidence = torch.from_numpy(corpus.confidence.astype(np.float32)).to(device)
        self.codes = torch.from_numpy(true_codes(corpus, augmentation)).to(device)
        # Lists as indices would be copied to the device in every step.
        groups = (LANDMARKS_46, LANDMARK_GROUPS["jaw"], MIRROR_68)
        self._inner, self._jaw, self._mirror = (torch.tensor(group, device=device) for group in groups)
        self._flip = torch.tensor([[-1.0, 1.0], [CROP_SIZE, 0.0]], dtype=torch.float64, device=device)
        self._centres = torch.arange(CROP_SIZE, device=device) + 0.5
        self._filters = resolution_filters().to(device) if augmentation.blur else None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, draw: Draw) -> Batch:
        """The batch that the same draw gives on the CPU; nothing is read back from the device."""
        images = self.images.index_select(0, draw.photos).float() / 255
        landmarks = self.landmarks.index_select(0, draw.photos)
        how = self.augmentation
        if how.moves:
            images, landmarks = self._moved(images, draw), self._moved_landmarks(landmarks, draw)
        if how.colour:
            images = (images * draw.gain.float()[:, :, None, None]).clamp(0, 1)
        if self._filters is not None:
            F = self._filters.index_select(0, draw.resolutions - SMALLEST)[:, None]
            images = F @ images @ F.mT
        confidence = self.confidence.index_select(0, draw.photos)
        swapped = confidence.index_select(1, self._mirror)
        confidence = torch.where(draw.mirrored[:, None], swapped, confidence)
        return Batch(
            images,
            landmarks.index_select(1, self._inner),
            confidence.index_select(1, self._inner),
            landmarks.index_select(1, self._jaw),
            confidence.index_select(1, self._jaw),
            self.codes.index_select(0, draw.photos),
        )

    def _moved(
        self, images: Float[Tensor, "batch 3 240 240"], draw: Draw
    ) -> Float[Tensor, "batch 3 240 240"]:
        """The images mirrored and moved, bilinear, beyond the border the border's colour."""
        # Backwards, from a pixel to where its colour comes from; a solver would wait for the device.
        (a, b), (c, d) = (row.unbind(-1) for row in draw.A.unbind(-2))
        adjugate = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2)
        back = adjugate / (a * d - b * c)[:, None, None]
        start = -(back @ draw.b[..., None])[..., 0]
        flips = draw.mirrored[:, None]
        back = torch.where(flips[..., None], back * self._flip[0, :, None], back)
        start = torch.where(flips, start * self._flip[0] + self._flip[1], start)
        back, start = (back * (2 / CROP_SIZE)).float(), (start * (2 / CROP_SIZE) - 1).float()
        x, y = back[:, None, None, :, 0], back[:, None, None, :, 1]
        grid = x * self._centres[:, None] + y * self._centres[:, None, None] + start[:, None, None]
        return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _moved_landmarks(
        self, landmarks: Float[Tensor, "batch 68 2"], draw: Draw
    ) -> Float[Tensor, "batch 68 2"]:
        """The landmarks mirrored and moved, in float64 as on the CPU."""
        places = landmarks.double()
        mirrored = (places * self._flip[0] + self._flip[1]).index_select(1, self._mirror)
        places = torch.where(draw.mirrored[:, None, None], mirrored, places)
        return (places @ draw.A.mT + draw.b[:, None]).float()


def resolution_filters() -> Float[Tensor, "resolutions 240 240"]:
    """For every resolution from SMALLEST to the crop's the matrix F with which F X Fᵀ shows a channel X at it (42 MB)."""
    one = np.eye(CROP_SIZE, dtype=np.float32)
    filters = []
    for resolution in range(SMALLEST, CROP_SIZE + 1):
        small = cv2.resize(one, (CROP_SIZE, resolution), interpolation=cv2.INTER_AREA)
        filters.append(cv2.resize(small, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR))
    return torch.from_numpy(np.stack(filters))


def on_device(corpus: CorpusSplit, config: TrainConfig, device: str) -> DeviceCorpus | None:
    """The corpus on the device, where the configuration and the memory there allow it; otherwise None.

    Raises ValueError when the configuration insists and there is no room.
    """
    if config.corpus_on_device == "no" or (config.corpus_on_device == "auto" and device == "cpu"):
        return None
    needed, free = len(corpus) * 3 * CROP_SIZE**2 + RESERVED_BYTES, free_bytes(device)
    if free is not None and needed > free:
        sentence = (
            f"{len(corpus)} decoded crops and the training beside them need {needed / 1e9:.1f} GB of the GPU's "
            f"memory, and {free / 1e9:.1f} GB are free"
        )
        if config.corpus_on_device == "yes":
            raise ValueError(f"{sentence}; give --corpus-on-device no to decode them while training")
        log.warning("%s; they are decoded while training", sentence)
        return None
    return DeviceCorpus(corpus, config.augmentation, device)


def free_bytes(device: str) -> int | None:
    """Free memory of a GPU; None for the CPU, whose memory is not asked for."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else None

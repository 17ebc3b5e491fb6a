"""The square 240×240 picture that the encoder sees, and the exact way back to the photo.

The rule puts the average face at a fixed place and size: the middle between brows and chin at the crop's
centre, at about 1 pixel per millimetre of a face at the zero code's distance. Its constants were measured on
photographs (docs/corpus.md), one set for boxes with five points (YuNet) and one for bare boxes (Haar).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mofaface.photo import Photo
from mofaface.similarity import Similarity

CROP_SIZE = 240


@dataclass(frozen=True)
class Box:
    """A detected face in photo pixels; points are right eye, left eye, nose tip, right and left mouth corner
    (the subject's right: on the picture's left)."""

    x: float
    y: float
    width: float
    height: float
    score: float = 1.0
    points: Float[np.ndarray, "5 2"] | None = None

    @property
    def size(self) -> float:
        """Geometric mean of width and height, pixels."""
        return float(np.sqrt(self.width * self.height))


@dataclass(frozen=True)
class Crop:
    """A face at network resolution and the similarity from its pixels to the photo's."""

    pixels: UInt8[np.ndarray, "240 240 3"]
    photo_from_crop: Similarity


@dataclass(frozen=True)
class CropRule:
    """How far below the detector's idea of the face's centre the crop lies, and how long its side is; both in
    the detector's idea of the face's size."""

    down: float
    side: float


YUNET_RULE = CropRule(down=0.128, side=1.458)
HAAR_RULE = CropRule(down=0.186, side=1.457)
# YuNet's box is on average this many times as large as the cross of its five points.
BOX_PER_POINTS = 1.9


def crop_square(box: Box) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square to cut, photo pixels."""
    centre_x, centre_y, size = _centre_and_size(box)
    rule = HAAR_RULE if box.points is None else YUNET_RULE
    return centre_x, centre_y + rule.down * size, rule.side * size


def _centre_and_size(box: Box) -> tuple[float, float, float]:
    centre = np.array([box.x + box.width / 2, box.y + box.height / 2])
    if box.points is None:
        return float(centre[0]), float(centre[1]), box.size
    # Box and points err in different ways (a box sees hair, points see the head turn): their mean errs least.
    eyes, mouth = box.points[:2].mean(0), box.points[3:].mean(0)
    centre = (centre + (eyes + mouth) / 2) / 2
    cross = np.hypot(np.linalg.norm(eyes - mouth), np.linalg.norm(box.points[1] - box.points[0]))
    return float(centre[0]), float(centre[1]), float(np.sqrt(box.size * BOX_PER_POINTS * max(cross, 1.0)))


def cut_crop(photo: Photo, box: Box) -> Crop:
    """The 240×240 crop around a detected face."""
    centre_x, centre_y, side = crop_square(box)
    scale = side / CROP_SIZE
    photo_from_crop = Similarity(scale, 0.0, centre_x - side / 2, centre_y - side / 2)
    return Crop(sample_square(photo.pixels, photo_from_crop), photo_from_crop)


def sample_square(
    pixels: UInt8[np.ndarray, "height width 3"], photo_from_crop: Similarity, size: int = CROP_SIZE
) -> UInt8[np.ndarray, "size size 3"]:
    """The picture at crop pixels, averaged over their area where the photo is finer; border replicated."""
    if photo_from_crop.scale <= 1.0:
        return _warp(pixels, photo_from_crop, size, cv2.INTER_CUBIC)
    pixels, photo_from_crop = _shrunk(pixels, photo_from_crop, size)
    # Four samples per crop pixel, then their mean: at a remaining scale in [1, 2) no photo pixel is skipped.
    half = Similarity(0.5, 0.0, 0.0, 0.0)
    fine = _warp(pixels, photo_from_crop.compose(half), 2 * size, cv2.INTER_LINEAR)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def _warp(pixels: np.ndarray, photo_from_crop: Similarity, size: int, interpolation: int) -> np.ndarray:
    matrix = photo_from_crop.matrix()
    # OpenCV has pixel centres at whole numbers, we have them at +0.5: both sides move by half a pixel.
    matrix[:, 2] += photo_from_crop.linear() @ [0.5, 0.5] - 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _shrunk(pixels: np.ndarray, photo_from_crop: Similarity, size: int) -> tuple[np.ndarray, Similarity]:
    """The part of the photo that the crop needs, shrunk by the whole part of its scale by area averages."""
    factor = int(photo_from_crop.scale)
    if factor == 1:
        return pixels, photo_from_crop
    corners = photo_from_crop.apply(np.array([[0.0, 0], [size, 0], [0, size], [size, size]]))
    low = np.floor(corners.min(0)).astype(int) - 2 * factor
    count = np.ceil((corners.max(0) + 2 * factor - low) / factor).astype(int)
    part = _part(pixels, low, count * factor)
    small = cv2.resize(part, tuple(count.tolist()), interpolation=cv2.INTER_AREA)
    small_from_photo = Similarity(1.0 / factor, 0.0, -low[0] / factor, -low[1] / factor)
    return small, small_from_photo.compose(photo_from_crop)


def _part(pixels: np.ndarray, low: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Rows and columns from `low` on, the border replicated where they leave the photo."""
    height, width = pixels.shape[:2]
    high = low + extent
    if (low >= 0).all() and high[0] <= width and high[1] <= height:
        return pixels[low[1] : high[1], low[0] : high[0]]
    columns = np.clip(np.arange(low[0], high[0]), 0, width - 1)
    rows = np.clip(np.arange(low[1], high[1]), 0, height - 1)
    # First the smallest part that holds all of it, so that only the border is repeated.
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = (int(np.count_nonzero(line == line[0])) - 1 for line in (rows, columns))
    bottom, right = len(rows) - len(inner) - top, len(columns) - inner.shape[1] - left
    return cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE)


def crops_to_tensor(crops: Sequence[Crop]) -> Float[Tensor, "batch 3 240 240"]:
    """The crops as one batch, RGB in [0, 1]."""
    # Without torch: its threads would still be waiting for work, on all cores, when the network's begin.
    stacked = np.stack([crop.pixels for crop in crops]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(stacked, np.float32) / np.float32(255))

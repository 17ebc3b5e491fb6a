"""What a camera and a file do to a picture: focus, motion, resolution, noise, JPEG, and an edge that is repeated.

None of it moves what is seen: pixels' places and mean colours stay, so that codes stay true.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mofaface.synthetic.config import Degradation

Picture = Float32[np.ndarray, "size size 3"]
# Pixels between the outermost landmark and an edge.
MARGIN = 3.0


def degrade(picture: Picture, how: Degradation, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """The picture (sRGB in [0, 1]) as a camera and a file would have left it."""
    out, moving, coarse, noisy, packed = rng.random(5) < (
        how.blur_rate, how.motion_rate, how.resolution_rate, how.noise_rate, how.jpeg_rate
    )  # fmt: skip
    size = len(picture)
    if out:
        picture = cv2.GaussianBlur(picture, (0, 0), max(rng.uniform(0, how.blur), 0.2))
    if moving:
        picture = cv2.filter2D(picture, -1, _motion(rng.uniform(min(2.0, how.motion), how.motion), rng))
    if coarse:
        small = max(16, round(size * np.exp(rng.uniform(np.log(how.resolution_low), 0))))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    if noisy:
        picture = picture + _noise(picture, how.noise * rng.random() ** 2, rng)
    pixels = np.round(255 * picture.clip(0, 1)).astype(np.uint8)
    if packed:
        pixels = _packed(pixels, int(rng.integers(how.jpeg_low, 98)) if how.jpeg_low < 98 else how.jpeg_low)
    if len(pixels) != size:
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
    return pixels


def photo_edge(
    pixels: UInt8[np.ndarray, "size size 3"], landmarks: Float[np.ndarray, "68 2"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size 3"], tuple[int, int, int, int]]:
    """The picture as if the photograph ended near the face and its edge were repeated, and what is left of it
    (left, top, right, bottom in pixels, ends excluded)."""
    size = len(pixels)
    low, high = landmarks.min(0) - MARGIN, landmarks.max(0) + MARGIN
    low[1] -= 15  # the forehead has no landmark
    cut = rng.random(4) < (0.85, 0.45, 0.85, 0.7)
    room = rng.random(4) ** 0.7 * (*low, *(size - high))
    left, top, right, bottom = np.where(cut & (room > 0), room, 0).astype(int).tolist()
    if left + right > size - 16 or top + bottom > size - 16:
        return pixels, (0, 0, size, size)
    inner = pixels[top : size - bottom, left : size - right]
    return (
        cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE),
        (left, top, size - right, size - bottom),
    )


def _motion(length: float, rng: np.random.Generator) -> Float32[np.ndarray, "side side"]:
    """A short straight path, symmetrical about its middle, so that nothing moves on average."""
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    angle, middle = rng.uniform(0, np.pi), side // 2
    for s in np.linspace(-length / 2, length / 2, 4 * side):
        x, y = middle + s * np.cos(angle), middle + s * np.sin(angle)
        i, j = int(np.floor(y)), int(np.floor(x))
        for row, wy in ((i, 1 - (y - i)), (i + 1, y - i)):
            for column, wx in ((j, 1 - (x - j)), (j + 1, x - j)):
                if 0 <= row < side and 0 <= column < side:
                    kernel[row, column] += wy * wx
    return kernel / kernel.sum()


def _noise(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of the sensor: in brightness, less so in colour, stronger where it is dark, as files encode it."""
    grey = rng.standard_normal((*picture.shape[:2], 1), np.float32)
    colour = rng.standard_normal(picture.shape, np.float32)
    return np.float32(sigma) * (0.8 * grey + 0.6 * colour) * (1.2 - 0.6 * picture)


def _packed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """There and back through JPEG with subsampled colours, as most files are."""
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])

"""What is seen behind a face, and what lies over it: photographs, procedural textures, noise, arbitrary shapes."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from mofaface.corpus.sources import Item, list_images
from mofaface.photo import PhotoError
from mofaface.synthetic.config import SynthConfig

Picture = Float32[np.ndarray, "size size 3"]
SIZE = 240


class Backdrops:
    """The backgrounds of a configuration; pictures are sRGB in [0, 1]."""

    def __init__(self, config: SynthConfig):
        self.how = config.surroundings
        self.photographs: list[Item] = [item for path in config.backgrounds for item in list_images(path)]

    def __call__(self, rng: np.random.Generator) -> Picture:
        """A random background."""
        kind = rng.random()
        if kind < self.how.noise_rate:
            return noise(rng)
        if self.photographs and rng.random() < self.how.photograph_rate:
            found = self._photograph(rng)
            if found is not None:
                return found
        return texture(rng)

    def _photograph(self, rng: np.random.Generator) -> Picture | None:
        """A random part of a random photograph, often out of focus; none where the photograph cannot be read."""
        item = self.photographs[rng.integers(len(self.photographs))]
        share, across, down, mirrored = *rng.random(3), rng.random() < 0.5
        blur = rng.uniform(0.5, 4.0) if rng.random() < 0.5 else 0.0
        try:
            pixels = item.read().pixels
        except PhotoError:
            return None
        height, width = pixels.shape[:2]
        side = max(8, int(min(height, width) * (0.45 + 0.55 * share)))
        top, left = int(down * (height - side)), int(across * (width - side))
        part = pixels[top : top + side, left : left + side]
        how = cv2.INTER_AREA if side > SIZE else cv2.INTER_LINEAR
        picture = cv2.resize(part, (SIZE, SIZE), interpolation=how).astype(np.float32) / 255
        picture = np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture
        return cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture


def texture(rng: np.random.Generator) -> Picture:
    """A wall, clouds of colour, stripes or shapes, more or less out of focus."""
    kind = rng.integers(4)
    if kind == 0:
        picture = _wall(rng)
    elif kind == 1:
        picture = _clouds(rng)
    elif kind == 2:
        picture = _stripes(rng)
    else:
        picture = _shapes(rng)
    blur = rng.uniform(0.5, 5.0)
    return cv2.GaussianBlur(picture, (0, 0), blur).clip(0, 1)


def noise(rng: np.random.Generator) -> Picture:
    """Independent colours in cells of 1 to 24 pixels."""
    cell = int(np.exp(rng.uniform(0, np.log(24))))
    count = -(-SIZE // cell)
    return np.kron(rng.random((count, count, 3), np.float32), np.ones((cell, cell, 1), np.float32))[
        :SIZE, :SIZE
    ]


def _single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def _colour(rng: np.random.Generator) -> Float32[np.ndarray, "3"]:
    """Mostly dull colours of any brightness."""
    grey, colourful = rng.random(), rng.random() ** 2
    return _single((grey + colourful * (rng.random(3) - 0.5)).clip(0, 1))


def _wall(rng: np.random.Generator) -> Picture:
    """From one colour to another, evenly."""
    corners = _single(np.array([[_colour(rng)] * 2] * 2)) if rng.random() < 0.3 else _single(
        _colour(rng) + 0.25 * (rng.random((2, 2, 3)) - 0.5)
    )  # fmt: skip
    return cv2.resize(corners, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _clouds(rng: np.random.Generator) -> Picture:
    """Noise of four sizes between two colours."""
    layers = [rng.random((k, k), np.float32) for k in (3, 7, 18, 48)]
    smooth = [
        w * cv2.resize(g, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        for g, w in zip(layers, (8, 4, 2, 1), strict=True)
    ]
    mixture = np.clip(sum(smooth) / 15 * 1.8 - 0.4, 0, 1)[..., None]
    return _single(mixture * _colour(rng) + (1 - mixture) * _colour(rng))


def _stripes(rng: np.random.Generator) -> Picture:
    """Parallel stripes, or a grid of them."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    angle, period = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(8, 90)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6))
    if rng.random() < 0.4:
        wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period)
    sharp = np.clip(wave * rng.uniform(1, 12), -1, 1)[..., None]
    return _single(0.5 * (1 + sharp) * _colour(rng) + 0.5 * (1 - sharp) * _colour(rng))


def _shapes(rng: np.random.Generator) -> Picture:
    """Rectangles, discs and bars, as furniture and people behind somebody are."""
    picture = np.broadcast_to(_colour(rng), (SIZE, SIZE, 3)).copy()
    for _ in range(rng.integers(3, 16)):
        place = rng.integers(-40, SIZE + 40, 2)
        size = np.exp(rng.uniform(np.log(6), np.log(120), 2)).astype(int)
        colour = _colour(rng).tolist()
        (x, y), (half_width, half_height) = place.tolist(), size.tolist()
        if rng.random() < 0.6:
            corners = (x - half_width, y - half_height), (x + half_width, y + half_height)
            cv2.rectangle(picture, *corners, colour, -1)
        else:
            cv2.ellipse(picture, (x, y), (half_width, half_height), rng.uniform(0, 180), 0, 360, colour, -1)
    return picture


def cover(
    picture: Picture,
    face: Bool[np.ndarray, "size size"],
    gain: Float[np.ndarray, "3"],
    rng: np.random.Generator,
) -> tuple[Picture, Float32[np.ndarray, "size size"]]:
    """The picture with a hand-like, stick-like or arbitrary shape over part of the face, and where it lies."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    rows, columns = np.nonzero(face)
    if not len(rows):
        return picture, mask
    k = rng.integers(len(rows))
    place = np.array([columns[k], rows[k]], np.float64)
    # Pushed outwards: things come from outside.
    place += 0.5 * (place - (columns.mean(), rows.mean()))
    kind = rng.random()
    outlines = _stick(place, rng) if kind < 0.35 else [_blob(place, rng)]
    for outline in outlines:
        cv2.fillPoly(mask, [(outline * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    mask = _single(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 1.6)))
    skin = _single(np.array([0.75, 0.53, 0.43])) * rng.uniform(0.35, 1.15)
    hand = kind > 0.65
    filling = skin + 0.25 * (_clouds(rng) - 0.5) * (1, 0.9, 0.8) if hand else texture(rng)
    filling = _single(filling * gain).clip(0, 1)
    return mask[..., None] * filling + (1 - mask[..., None]) * picture, mask


def _blob(place: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "points 2"]:
    """A closed curve about a place: a circle with a few waves."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = 1 + sum(0.28 / k * rng.normal() * np.cos(k * turn + rng.uniform(0, 6)) for k in range(2, 6))
    size, stretch, angle = rng.uniform(14, 42), rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
    curve = np.stack((np.cos(turn), stretch * np.sin(turn)), -1) * np.maximum(radius, 0.2)[:, None] * size
    c, s = np.cos(angle), np.sin(angle)
    return place + curve @ np.array([[c, s], [-s, c]])


def _stick(place: np.ndarray, rng: np.random.Generator) -> list[Float[np.ndarray, "points 2"]]:
    """One to four fingers, or a microphone: bars with round ends that come from a side or from below."""
    angle = rng.choice([rng.normal(np.pi / 2, 0.35), rng.normal(0, 0.5), rng.normal(np.pi, 0.5)])
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    half = rng.uniform(5, 10)
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 12)
    end = half * (np.cos(turn)[:, None] * along + np.sin(turn)[:, None] * across)
    bars = []
    for k in range(rng.integers(1, 5)):
        tip = place + across * 2.1 * half * k + along * 8 * rng.random()
        bars.append(
            np.concatenate(
                (tip + end, [tip + 320 * along - half * across, tip + 320 * along + half * across])
            )
        )
    return bars

"""Measuring a network on photographs that it has not learnt from, beside the figures of the paper."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mofaface.autoencoder import Autoencoder
from mofaface.corpus import CorpusSplit, iterate_images
from mofaface.metrics import landmark_error, photometric_error
from mofaface.photo import Photo, PhotoError, read_photo
from mofaface.reconstruction import Reconstruction
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION

BATCH = 16
BOOTSTRAP = 1000
# Section 7 of the paper, 5k held-out photographs: AlexNet and VGG-Face.
PAPER = {
    "landmark_px": "5.3 / 4.9 unsupervised, 3.7 / 3.4 with landmarks",
    "photometric": "0.075 / 0.073 unsupervised, 0.078 with landmarks",
}


@dataclass(frozen=True)
class Figure:
    """A mean over photographs with its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.count})"


def figure(values: Float[np.ndarray, "photos"], seed: int = 0) -> Figure:
    """The mean of values and its bootstrapped 95 % interval."""
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(BOOTSTRAP)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Figure(float(values.mean()), float(low), float(high), len(values))


@torch.no_grad()
def errors_on_corpus(autoencoder: Autoencoder, corpus: CorpusSplit) -> dict[str, Float[np.ndarray, "photos"]]:
    """Landmark error (46 points, pixels at 240) and photometric error (RGB distance) of every photograph."""
    device = next(autoencoder.parameters()).device
    vertices = autoencoder.decoder.model.landmarks_46
    found: dict[str, list[torch.Tensor]] = {name: [] for name in PAPER}
    for first in range(0, len(corpus), BATCH):
        indices = list(range(first, min(first + BATCH, len(corpus))))
        batch = make_batch(corpus, indices, NO_AUGMENTATION, [0]).to(device)
        _, face = autoencoder(batch.image)
        found["landmark_px"].append(landmark_error(face, vertices, batch.landmarks))
        found["photometric"].append(photometric_error(batch.image, face))
    return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}


def five_points(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "5 2"]:
    """Eye centres (mean of the six lid points), nose tip and mouth corners, from the picture's left."""
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def read_points(path: Path, shift: float = 0.0) -> dict[str, Float[np.ndarray, "5 2"]]:
    """Manual points by file name from a CSV with a column `file` and ten coordinates; else ValueError.

    `shift` is added to all: 0.5 for annotations that count pixel centres from 0.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets write the mark at its start
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV in UTF-8 ({error}); save it as such") from None
    if not rows or rows[0][:1] != ["file"] or len(rows[0]) != 11:
        found = rows[0] if rows else "none"
        raise ValueError(f"{path} must have the columns file and x, y of five points; it has {found}")
    try:
        return {row[0]: np.array(row[1:], np.float64).reshape(5, 2) + shift for row in rows[1:] if row}
    except ValueError as error:
        raise ValueError(
            f"{path} must give ten numbers after each file name ({error}); correct that line"
        ) from None


def errors_on_points(
    reconstruct: Callable[[Photo], list[Reconstruction]], points: dict[str, np.ndarray], images: Path
) -> Iterator[tuple[str, Float[np.ndarray, "5 2"] | None]]:
    """For each annotated photo its name and the five errors over the eye distance; None without a face.

    Of several faces the one nearest to the annotation is taken: it tells which face is meant.
    """
    for name, data in iterate_images(images):
        truth = points.get(Path(name).name)
        if truth is None:
            continue
        try:
            faces = reconstruct(read_photo(data))
        except PhotoError:
            faces = []
        errors = [(five_points(face.landmarks_68) - truth) / _eye_distance(truth) for face in faces]
        yield Path(name).name, min(errors, key=lambda e: np.linalg.norm(e, axis=1).mean()) if errors else None


def only_held_out(points: dict[str, np.ndarray], held_out: CorpusSplit) -> dict[str, np.ndarray]:
    """The points of those photographs that are held out; the corpus must have the photos under the same names."""
    names = {PurePosixPath(name).name for name in held_out.names}
    return {file: value for file, value in points.items() if PurePosixPath(file).name in names}


def summarise(found: dict[str, Float[np.ndarray, "5 2"] | None]) -> dict[str, Any]:
    """The mean error over the eye distance, of all points and of each, and how many photos gave no face."""
    measured = [errors for errors in found.values() if errors is not None]
    if not measured:
        raise ValueError(
            f"none of the {len(found)} annotated photos gave a face; do --points and --images belong together?"
        )
    lengths = np.linalg.norm(np.stack(measured), axis=2)
    names = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")
    return {
        "five_points": asdict(figure(lengths.mean(1))),
        "each": dict(zip(names, lengths.mean(0).tolist(), strict=True)),
        "mean_offset": np.stack(measured).mean((0, 1)).tolist(),
        "no_face": len(found) - len(measured),
    }


def _eye_distance(points: Float[np.ndarray, "5 2"]) -> float:
    return float(np.linalg.norm(points[1] - points[0]))

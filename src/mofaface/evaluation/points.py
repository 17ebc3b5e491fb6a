"""Landmark error against points that the network's own training never saw: five manual ones, or 68 of another detector."""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mofaface.corpus import CorpusSplit, iterate_images, list_images
from mofaface.corpus.adapters import NUMBERED_NAME
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.evaluation.bootstrap import Figure, figure
from mofaface.facemesh import find_mesh
from mofaface.geometry import landmark_places
from mofaface.landmarks import LANDMARK_GROUPS, LANDMARKS_46
from mofaface.metrics import INNER
from mofaface.photo import Photo, PhotoError, read_photo
from mofaface.reconstruct import Reconstructor

LOG = logging.getLogger(__name__)
PHOTOS_AT_ONCE = 16
FIVE_NAMES = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")
Points = Float[np.ndarray, "points 2"]


@dataclass(frozen=True)
class Found:
    """The landmarks of one face of a photo."""

    landmarks_68: Float[np.ndarray, "68 2"]
    """Photo pixels."""
    scale: float
    """Photo pixels in one pixel of the 240×240 crop."""
    detector_68: Float[np.ndarray, "68 2"] | None = None
    """The landmark detector's own, where asked for."""


@dataclass(frozen=True)
class PointErrors:
    """Errors of one photo's face: estimate minus annotation, in photo pixels."""

    offset: Points
    eye_distance: float
    """Of the annotation: between eye centres for five points, between outer corners for 68."""
    scale: float
    """Photo pixels in one pixel of the crop."""
    detector_offset: Points | None = None
    tilt: float = 0.0
    """Angle of the line from the person's right eye to the left one, radians."""

    @property
    def upright(self) -> Points:
        """The errors over the eye distance, turned with the face until its eyes are level."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        turned: Points = self.offset @ np.array([[c, -s], [s, c]]) / self.eye_distance
        return turned

    @property
    def relative(self) -> Float[np.ndarray, "points"]:
        """Lengths of the errors over the eye distance."""
        return np.linalg.norm(self.offset, axis=1) / self.eye_distance

    @property
    def judged(self) -> list[int]:
        """The points that the main figure is made of: all five, or the 51 inner ones."""
        return list(range(len(self.offset)))[INNER if len(self.offset) == 68 else slice(None)]

    @property
    def error(self) -> float:
        """Their mean error over the eye distance."""
        return float(self.relative[self.judged].mean())

    @property
    def pixels(self) -> Float[np.ndarray, "points"]:
        """Lengths of the errors in pixels of the 240×240 crop."""
        return np.linalg.norm(self.offset, axis=1) / self.scale


def five_points(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "5 2"]:
    """Eye centres (mean of the six lid points), nose tip and mouth corners, from the picture's left."""
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def read_points(path: Path, shift: float = 0.0) -> dict[str, Points]:
    """Points by file name from a CSV with a column `file` and x, y of 5 or 68 points; else ValueError.

    `shift` is added to all: 0.5 for annotations that count pixel centres from 0. A name that several rows have is left
    out: nothing says which of them belongs to which picture.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets write the mark at its start
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV in UTF-8 ({error}); save it as such") from None
    if not rows or rows[0][:1] != ["file"] or len(rows[0]) not in (11, 137):
        found = f"{len(rows[0])} columns, {', '.join(rows[0][:4])} …" if rows and rows[0] else "none"
        raise ValueError(f"{path} must have the columns file and x, y of five or 68 points; it has {found}")
    count = (len(rows[0]) - 1) // 2
    once = _borne_once([row[0] for row in rows[1:] if row], f"rows of {path.name}")
    try:
        return {
            row[0]: np.array(row[1:], np.float64).reshape(count, 2) + shift
            for row in rows[1:]
            if row and row[0] in once
        }
    except ValueError as error:
        raise ValueError(
            f"{path} must give {2 * count} numbers after each file name ({error}); correct that line"
        ) from None


def _borne_once(names: list[str], what: str) -> set[str]:
    """The names that occur once; a warning says how many others are left out."""
    times = Counter(names)
    once = {name for name, count in times.items() if count == 1}
    if left := len(times) - len(once):
        LOG.warning("names that several %s share are left out: %d", what, left)
    return once


def only_in(points: dict[str, Points], split: CorpusSplit) -> dict[str, Points]:
    """The points of the photographs of a split; the corpus must have the photos under the same names."""
    names = {PurePosixPath(name).name for name in split.names}
    return {file: value for file, value in points.items() if PurePosixPath(file).name in names}


def landmark_finder(
    reconstructor: Reconstructor, detector_too: bool = False
) -> Callable[[Sequence[Photo]], list[list[Found]]]:
    """What finds the landmarks of every face of a few photos at once: one pass of the network for all their crops."""

    @torch.no_grad()
    def find(photos: Sequence[Photo]) -> list[list[Found]]:
        boxes = [reconstructor.detect(photo).faces for photo in photos]
        crops = [cut_crop(photo, box) for photo, found in zip(photos, boxes, strict=True) for box in found]
        if not crops:
            return [[] for _ in photos]
        device = next(reconstructor.autoencoder.parameters()).device
        code = reconstructor.read(crops_to_tensor(crops).to(device))
        decoder = reconstructor.autoencoder.decoder
        places = landmark_places(decoder.model, decoder.camera, code).numpy()
        answers = iter(zip(crops, places, strict=True))
        return [
            [
                Found(
                    crop.photo_from_crop.apply(place),
                    crop.photo_from_crop.scale,
                    find_mesh(photo, box).landmarks_68 if detector_too else None,
                )
                for box, (crop, place) in zip(found, islice(answers, len(found)), strict=True)
            ]
            for photo, found in zip(photos, boxes, strict=True)
        ]

    return find


def annotated_photos(points: dict[str, Points], images: Path) -> Iterator[tuple[str, Photo | None]]:
    """Name and photo, None where it cannot be read, of every annotated one.

    Photos that share their name are left out: the annotation may be any one's.
    """
    named = [name for item in list_images(images) if (name := Path(item.name).name) in points]
    once = _borne_once(named, f"photos in {images.name}")
    for name, data in iterate_images(images):
        if Path(name).name in once:
            yield Path(name).name, _read(data)


def errors_on_points(
    find: Callable[[Sequence[Photo]], list[list[Found]]], points: dict[str, Points], images: Path
) -> Iterator[tuple[str, PointErrors | None]]:
    """For each annotated photo its name and its errors; None without a face.

    Of several faces the one nearest to the annotation is taken: it tells which face is meant.
    """
    wanted = annotated_photos(points, images)
    while few := list(islice(wanted, PHOTOS_AT_ONCE)):
        found = iter(find([photo for _, photo in few if photo is not None]))
        for name, photo in few:
            faces = [] if photo is None else next(found)
            yield name, _nearest(faces, points[name])


def eye_distance(truth: Points) -> float:
    """Distance of the eye centres of five points, or of the outer corners of 68, pixels."""
    return float(np.linalg.norm(eye_line(truth)))


def eye_line(truth: Points) -> Float[np.ndarray, "2"]:
    """From the person's right eye to the left one, centres of five points or outer corners of 68, pixels."""
    right, left = (36, 45) if len(truth) == 68 else (0, 1)
    return np.asarray(truth[left] - truth[right])


def person_of(name: str) -> str:
    """The person in a name such as Ann_Lee_0001.jpg; the whole name where it tells none."""
    match = NUMBERED_NAME.match(PurePosixPath(name).name)
    return match["person"] if match else name


def summarise(found: dict[str, PointErrors | None]) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures by the names of METRICS, and the rest: errors by part of the face, mean offset, photos without a face."""
    measured = {name: errors for name, errors in found.items() if errors is not None}
    if not measured:
        raise ValueError(
            f"none of the {len(found)} annotated photos gave a face; do --points and --images belong together?"
        )
    people = [person_of(name) for name in measured]
    relative = np.stack([errors.relative for errors in measured.values()])
    pixels = np.stack([errors.pixels for errors in measured.values()])
    five = relative.shape[1] == 5
    chosen: dict[str, list[int]] = (
        {"five_points": list(range(5))}
        if five
        else {
            "inner_51": list(range(68))[INNER],
            "all_68": list(range(68)),
            "loss_46": list(LANDMARKS_46),
        }
    )
    figures = {}
    for name, rows in chosen.items():
        figures[name] = figure(relative[:, rows].mean(1), people)
        if name != "loss_46":
            figures[f"{name}_px"] = figure(pixels[:, rows].mean(1), people)
    main = next(iter(chosen.values()))
    if len(set(people)) > 1:
        upright = np.stack([errors.upright for errors in measured.values()])
        left = without_offsets(upright, people)[:, main]
        figures["without_offsets"] = figure(np.linalg.norm(left, axis=2).mean(1), people)
    own = [e.detector_offset for e in measured.values() if e.detector_offset is not None]
    if own:
        distances = np.array([e.eye_distance for e in measured.values()])
        figures["detector"] = figure(
            np.linalg.norm(np.stack(own)[:, main], axis=2).mean(1) / distances, people
        )
    parts = dict(zip(FIVE_NAMES, range(5), strict=True)) if five else LANDMARK_GROUPS
    offsets = np.stack([errors.offset / errors.eye_distance for errors in measured.values()])
    return figures, {
        "each": {name: float(relative[:, rows].mean()) for name, rows in parts.items()},
        "mean_offset": offsets.mean((0, 1)).tolist(),
        "no_face": len(found) - len(measured),
    }


def without_offsets(
    offsets: Float[np.ndarray, "faces points 2"], people: Sequence[str]
) -> Float[np.ndarray, "faces points 2"]:
    """The offsets minus each point's mean over the faces of all other people.

    What two sources call a landmark may differ by a constant; what is left is error. A person's own faces have no say, so
    that nothing of the error is learned away.
    """
    _, person = np.unique(people, return_inverse=True)
    own = np.zeros((person.max() + 1, *offsets.shape[1:]))
    np.add.at(own, person, offsets)
    others = len(person) - np.bincount(person)[person]
    left: Float[np.ndarray, "faces points 2"] = (
        offsets - (offsets.sum(0) - own[person]) / others[:, None, None]
    )
    return left


def _nearest(faces: list[Found], truth: Points) -> PointErrors | None:
    errors = [_errors(face, truth) for face in faces]
    return min(errors, key=lambda e: e.error) if errors else None


def _errors(face: Found, truth: Points) -> PointErrors:
    same: Callable[[np.ndarray], np.ndarray] = five_points if len(truth) == 5 else np.asarray
    own = None if face.detector_68 is None else same(face.detector_68) - truth
    offset = same(face.landmarks_68) - truth
    x, y = eye_line(truth)
    return PointErrors(offset, eye_distance(truth), face.scale, own, float(np.arctan2(y, x)))


def _read(data: Path | bytes) -> Photo | None:
    try:
        return read_photo(data)
    except PhotoError:
        return None

"""Sheets of the best, median and worst cases. They show photographs: for whoever measured, not for a project's page."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from mofaface.corpus import CorpusSplit
from mofaface.decoder import Decoder
from mofaface.evaluation.points import PointErrors, Points
from mofaface.losses import colour_distance
from mofaface.pictures import contact_sheet, save_picture, sheet_of_faces

EACH = 4
TITLES = ("best", "median", "worst")
GREEN, RED = (40, 220, 60), (235, 50, 40)
HEAT_PHOTOS = 96


def extremes(values: Float[np.ndarray, "photos"], each: int = EACH) -> dict[str, list[int]]:
    """Numbers of the best, the middle and the worst values, none twice where there are enough; NaN is none of them."""
    order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]
    each = max(1, min(each, len(order) // 3))
    first = max(0, (len(order) - each) // 2)
    chosen = (order[:each], order[first : first + each], order[::-1][:each])
    return {title: rows.tolist() for title, rows in zip(TITLES, chosen, strict=True)}


@torch.no_grad()
def sheet_of_cases(
    path: Path,
    decoder: Decoder,
    corpus: CorpusSplit,
    codes: Float32[np.ndarray, "photos size"],
    values: Float[np.ndarray, "photos"],
    unit: str,
) -> Path:
    """Crops with the network's answer beside them, best, median and worst by a value; each two to a row."""
    cases = [(title, i) for title, rows in extremes(values).items() for i in rows]
    numbers = [i for _, i in cases]
    image = torch.stack([torch.from_numpy(corpus.image(i)).permute(2, 0, 1).float() / 255 for i in numbers])
    code = decoder.model.layout.unpack(torch.from_numpy(codes[numbers]).to(decoder.model.mean_shape))
    face = decoder(code)
    labels = [f"{title}: {values[i]:.3g} {unit}, {corpus.sources[i]}" for title, i in cases]
    return save_picture(
        path, sheet_of_faces(image.to(face.colour), face, decoder.model, code.gamma, labels, tile=180)
    )


@torch.no_grad()
def colour_errors(
    decoder: Decoder, corpus: CorpusSplit, codes: Float32[np.ndarray, "photos size"], batch: int = 16
) -> Float[np.ndarray, "vertices"]:
    """Mean RGB distance of every vertex over evenly chosen photographs in which it faces the camera; else NaN."""
    numbers = np.unique(np.linspace(0, len(corpus) - 1, min(HEAT_PHOTOS, len(corpus))).round().astype(int))
    total, seen = np.zeros(decoder.model.vertices), np.zeros(decoder.model.vertices)
    for first in range(0, len(numbers), batch):
        rows = numbers[first : first + batch].tolist()
        pixels = torch.from_numpy(np.stack([corpus.image(i) for i in rows])).permute(0, 3, 1, 2)
        code = decoder.model.layout.unpack(torch.from_numpy(codes[rows]).to(decoder.model.mean_shape))
        face = decoder(code)
        front = face.front
        total += (colour_distance(pixels.to(face.colour) / 255, face) * front).sum(0).double().cpu().numpy()
        seen += front.sum(0).cpu().numpy()
    return np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0)


def sheet_of_points(
    path: Path,
    photos: dict[str, UInt8[np.ndarray, "_ _ 3"]],
    points: dict[str, Points],
    found: dict[str, PointErrors],
    tile: int = 240,
) -> Path:
    """Photos (those of `chosen_names`) with the annotation in green and the estimate in red: best, median and worst."""
    names, values = list(found), np.array([e.error for e in found.values()])
    rows, labels = [], []
    for title, numbers in extremes(values).items():
        rows.append(
            [_with_points(photos[names[i]], points[names[i]], found[names[i]], tile) for i in numbers]
        )
        labels.append([f"{title}: {100 * values[i]:.1f} %" for i in numbers])
    return save_picture(path, contact_sheet(rows, (), labels, tile))


def chosen_names(found: dict[str, PointErrors]) -> set[str]:
    """The photos that `sheet_of_points` shows."""
    names, values = list(found), np.array([e.error for e in found.values()])
    return {names[i] for numbers in extremes(values).values() for i in numbers}


def _with_points(photo: np.ndarray, truth: np.ndarray, errors: PointErrors, tile: int) -> np.ndarray:
    """The face around the annotation, enlarged, with both lists of points."""
    low, high = truth.min(0), truth.max(0)
    half, middle = 0.9 * max(float((high - low).max()), 8.0), (low + high) / 2
    k = tile / (2 * half)
    # OpenCV counts pixel centres from 0, we from 0.5.
    M = np.array([[k, 0, k * (0.5 - middle[0] + half) - 0.5], [0, k, k * (0.5 - middle[1] + half) - 0.5]])
    picture = cv2.warpAffine(photo, M, (tile, tile), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    for places, colour in ((truth, GREEN), (truth + errors.offset, RED)):
        for x, y in (places - middle + half) * k * 16:  # OpenCV's sub-pixel places: four binary digits
            cv2.circle(picture, (round(x - 8), round(y - 8)), 2 * 16, colour, -1, cv2.LINE_AA, 4)
    return picture

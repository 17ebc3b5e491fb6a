"""How much a face trembles from frame to frame of a clip, beside what the landmark detector does.

The measure is the second difference x(i+1) − 2 x(i) + x(i−1): steady motion has none, and independent noise of standard
deviation σ in every frame gives √6 σ. Frames are read on their own, so nothing smooths the answer.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mofaface.corpus.sources import Item, list_frames, list_images
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.evaluation.bootstrap import Figure, figure
from mofaface.evaluation.points import person_of
from mofaface.evaluation.truth import posed
from mofaface.facemesh import find_mesh
from mofaface.photo import Photo, PhotoError
from mofaface.reconstruct import Reconstructor, crop_cameras

VIDEOS = (".avi", ".mp4", ".mov", ".mkv")
UNITS = {
    "landmarks_px": "px at 240",
    "detector_px": "px at 240",
    "against_detector_px": "px at 240",
    "vertices_mm": "mm",
    "shape_mm": "mm",
    "rotation_deg": "°",
}


@dataclass(frozen=True)
class Frame:
    """One face of a clip, in pixels of the photo and mm of a camera that stays the same for the clip."""

    number: int
    landmarks: Float[np.ndarray, "68 2"]
    detected: Float[np.ndarray, "68 2"]
    vertices: Float[np.ndarray, "vertices 3"]
    """In camera space, from the head's origin, mm."""
    origin: Float[np.ndarray, "2"]
    """Where the head's origin is seen, pixels of the photo."""
    depth: float
    """mm, for the focal length of this frame's crop."""
    shape: Float[np.ndarray, "vertices 3"]
    """In model space, mm."""
    rotation: Float[np.ndarray, "3 3"]
    scale: float
    """Photo pixels in one pixel of the crop."""


def clips(path: Path) -> dict[str, list[Item]]:
    """The frames of each clip of a video, folder or archive, in order.

    Pictures of one folder are one clip; those at the top are clips by the person whom their names tell (Name_01.jpg).
    """
    if path.suffix.lower() in VIDEOS:
        return {path.stem: list_frames(path, path.stem, 1)}
    items = sorted(list_images(path), key=lambda item: (clip_of(item.name), _natural(item.name)))
    return {name: list(frames) for name, frames in groupby(items, key=lambda item: clip_of(item.name))}


def clip_of(name: str) -> str:
    """The clip to which a picture belongs by its path."""
    folder = PurePosixPath(name).parent.as_posix()
    if folder != ".":
        return folder
    person = person_of(name)
    return person if person != name else "clip"


@torch.no_grad()
def frames(reconstructor: Reconstructor, items: Iterable[Item]) -> Iterator[Frame]:
    """The largest face of each frame; frames without one are left out, and break the sequence."""
    decoder = reconstructor.autoencoder.decoder
    device = next(reconstructor.autoencoder.parameters()).device
    for number, item in enumerate(items):
        photo = _read(item)
        boxes = reconstructor.detect(photo).faces if photo is not None else ()
        if photo is None or not boxes:
            continue
        crop = cut_crop(photo, boxes[0])
        code = reconstructor.read(crops_to_tensor([crop]).to(device))
        x = posed(decoder, code)[0].double().cpu()
        shape = decoder.model.geometry(code.alpha, code.delta)[0].double().cpu()
        (camera,) = crop_cameras(decoder.camera, code)
        marks = decoder.model.landmarks_68.cpu()
        s = crop.photo_from_crop
        yield Frame(
            number,
            s.apply(camera.project(shape[marks]).numpy()),
            find_mesh(photo, boxes[0]).landmarks_68,
            (x - camera.t).numpy(),
            s.apply(camera.project(torch.zeros(1, 3, dtype=torch.float64)).numpy())[0],
            float(camera.t[2]),
            shape.numpy(),
            camera.R.numpy(),
            s.scale,
        )


def jitter(clip: list[Frame], focal: float) -> dict[str, Float[np.ndarray, "triples"]]:
    """Root mean square second differences over points, for every three frames in a row, by the names of UNITS.

    Crops differ in size from frame to frame and with them the focal length in photo pixels. All frames are seen with the
    camera of the clip's median crop: a crop twice as large puts the head at half the distance. `focal` is the crops', in
    their own pixels.
    """
    scale = float(np.median([f.scale for f in clip])) if clip else 1.0
    places = [_in_clip_camera(f, focal, scale) for f in clip]
    rows: dict[str, list[float]] = {name: [] for name in UNITS}
    for i in range(1, len(clip) - 1):
        a, b, c = clip[i - 1 : i + 2]
        if (b.number - a.number, c.number - b.number) != (1, 1):
            continue
        ours = a.landmarks - 2 * b.landmarks + c.landmarks
        theirs = a.detected - 2 * b.detected + c.detected
        rows["landmarks_px"].append(_rms(ours) / scale)
        rows["detector_px"].append(_rms(theirs) / scale)
        rows["against_detector_px"].append(_rms(ours - theirs) / scale)
        rows["vertices_mm"].append(_rms(places[i - 1] - 2 * places[i] + places[i + 1]))
        rows["shape_mm"].append(_rms(a.shape - 2 * b.shape + c.shape))
        rows["rotation_deg"].append(_turn_change(a.rotation, b.rotation, c.rotation))
    return {name: np.array(values, np.float64) for name, values in rows.items()}


def summarise(found: dict[str, dict[str, np.ndarray]]) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures over all clips (drawn clip by clip), and how many triples each gave; ValueError where none did."""
    counts = {name: len(values["landmarks_px"]) for name, values in found.items()}
    if not sum(counts.values()):
        raise ValueError(
            f"none of the {len(found)} clips has three frames in a row with a face; give videos, or folders of "
            "frames whose names are in order"
        )
    clip = [name for name, count in counts.items() for _ in range(count)]
    figures = {
        name: figure(np.concatenate([values[name] for values in found.values()]), clip) for name in UNITS
    }
    return figures, {"clips": {name: count for name, count in counts.items() if count}}


def _in_clip_camera(frame: Frame, focal: float, scale: float) -> Float[np.ndarray, "vertices 3"]:
    """Vertices in mm in the camera of the clip, looking through the photo's corner: second differences do not mind."""
    depth = frame.depth * scale / frame.scale
    x, y = frame.origin * depth / (focal * scale)
    return frame.vertices + (x, y, depth)


def _turn_change(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """By how many degrees the turn from b to c differs from that from a to b."""
    change = (c @ b.T) @ (b @ a.T).T
    # As in metrics.rotation_error: exact near zero.
    return float(np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(change - np.eye(3)) / np.sqrt(8)))))


def _rms(difference: np.ndarray) -> float:
    """Root mean square length of the rows."""
    return float(np.sqrt((difference**2).sum(-1).mean()))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Numbers in a name by their value, so that frame 10 comes after frame 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _read(item: Item) -> Photo | None:
    try:
        return item.read()
    except PhotoError:
        return None

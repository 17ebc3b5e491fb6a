"""One photo of a corpus: from an item to a crop with landmarks, or the reason why it is left out."""

import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mofaface.corpus.config import Pruning
from mofaface.corpus.sources import Item
from mofaface.corpus.split import SplitName
from mofaface.crop import CROP_SIZE, Box, cut_crop
from mofaface.detection import Detection, DetectorName, detect_faces
from mofaface.facemesh import FaceMesh, find_mesh
from mofaface.photo import PhotoError

FORMAT = "mofaface-corpus"
# Version 1 had other landmarks along brows, nose and outer lips: those of open face model 1.0.
VERSION = 2
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY, 95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A photo that waits for its turn."""

    key: str
    source: str
    person: str
    split: SplitName
    item: Item


@dataclass(frozen=True)
class Sample:
    """A crop as JPEG and everything known about it; or, with no JPEG, the reason why there is none."""

    key: str
    meta: dict[str, Any]
    jpeg: bytes = b""
    reason: str = ""
    kind: str = ""

    def json(self) -> bytes:
        """The metadata as it stands in the shard."""
        return json.dumps(self.meta).encode()


class Rejected(Exception):
    """Why a photo is left out: a kind to count by and a sentence."""


def make_sample(task: Task, detector: DetectorName, pruning: Pruning) -> Sample:
    """The sample of a task; never raises for what a photo may hold."""
    try:
        return _sample(task, detector, pruning)
    except PhotoError as error:
        kind, reason = "unreadable", str(error)
    except Rejected as error:
        kind, reason = error.args
    except (cv2.error, OSError, ValueError, FloatingPointError, MemoryError) as error:
        kind, reason = "failed", f"{type(error).__name__}: {error}"
    return Sample(task.key, {}, b"", reason, kind)


def _sample(task: Task, detector: DetectorName, pruning: Pruning) -> Sample:
    photo = task.item.read()
    box = _judged_box(detect_faces(photo, detector), detector, pruning)
    mesh = find_mesh(photo, box)
    crop = cut_crop(photo, box)
    landmarks = crop.photo_from_crop.inverse().apply(mesh.landmarks_68)
    _judge_mesh(mesh, landmarks, pruning)
    height, width = photo.pixels.shape[:2]
    meta = {
        "format": FORMAT, "version": VERSION,
        "key": task.key, "source": task.source, "name": task.item.name,
        "person": task.person, "split": task.split,
        "landmarks_68": landmarks.round(3).tolist(),
        "confidence_68": _confidence(mesh, landmarks).round(4).tolist(),
        "photo_from_crop": vars(crop.photo_from_crop),
        "photo_size": [width, height],
        "box": [round(v, 2) for v in (box.x, box.y, box.width, box.height)],
        "score": round(box.score, 4), "detector": detector,
        "presence": round(mesh.presence, 3), "disagreement": round(mesh.disagreement, 5), 
        "yaw": round(mesh.yaw, 4),
    }  # fmt: skip
    return Sample(task.key, meta, encode_jpeg(crop.pixels))


def _judged_box(detection: Detection, detector: DetectorName, pruning: Pruning) -> Box:
    if not detection.faces:
        raise Rejected("no face", detection.reason)
    box = detection.faces[0]
    if box.size < pruning.min_face:
        raise Rejected("small face", f"the face is {box.size:.0f} pixels wide, below {pruning.min_face:.0f}")
    if detector == "yunet" and box.score < pruning.score:
        raise Rejected("doubtful detection", f"detector score {box.score:.2f}, below {pruning.score}")
    return box


def _judge_mesh(mesh: FaceMesh, landmarks: Float[np.ndarray, "68 2"], pruning: Pruning) -> None:
    if mesh.presence < pruning.presence:
        raise Rejected("no face for the landmarks", f"presence {mesh.presence:.1f}, below {pruning.presence}")
    if mesh.disagreement > pruning.disagreement:
        raise Rejected(
            "passes disagree", f"disagreement {mesh.disagreement:.3f}, above {pruning.disagreement}"
        )
    outside = int(_outside(landmarks).sum())
    if outside > pruning.outside:
        raise Rejected("face outside the crop", f"{outside} landmarks lie outside the crop")
    low, high = landmarks.min(0), landmarks.max(0)
    off = float(np.linalg.norm((low + high) / 2 - CROP_SIZE / 2))
    if off > pruning.off_centre:
        raise Rejected(
            "detector and landmarks disagree", f"the landmarks lie {off:.0f} pixels off the centre"
        )


def _outside(landmarks: Float[np.ndarray, "68 2"]) -> Bool[np.ndarray, "68"]:
    return np.any((landmarks < 0) | (landmarks > CROP_SIZE), axis=1)


def _confidence(mesh: FaceMesh, landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68"]:
    return np.where(_outside(landmarks), 0.0, mesh.confidence_68)


def encode_jpeg(pixels: UInt8[np.ndarray, "240 240 3"]) -> bytes:
    """The crop as JPEG, quality 95, without colour subsampling."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), JPEG)
    if not good:
        raise ValueError("the crop could not be encoded")
    return data.tobytes()

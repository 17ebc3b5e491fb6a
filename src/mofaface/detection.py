"""Faces in a photo: YuNet (default) or the paper's Haar cascade, as boxes in photo pixels."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mofaface.crop import Box
from mofaface.engines import Engine, uses_onnxruntime
from mofaface.photo import Photo

DetectorName = Literal["yunet", "haar"]
YUNET_PATH = Path(__file__).parent / "assets" / "face_detection_yunet_2023mar_int8bq.onnx"
MIN_FACE = 20.0
LONG_SIDES = (640, 1280)
YUNET_SCORE = 0.6
Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Detection:
    """The faces of one photo, largest first, and those too small to use."""

    faces: tuple[Box, ...]
    tiny: tuple[Box, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is no face to use; "" where there is one."""
        if self.faces:
            return ""
        if not self.tiny:
            return "no face found; give a photo with a face that looks towards the camera"
        return (
            f"the largest face is only {self.tiny[0].size:.0f} pixels wide; "
            f"at least {MIN_FACE:.0f} are needed: give a larger picture"
        )


def detect_faces(
    photo: Photo, detector: DetectorName = "yunet", min_face: float = MIN_FACE, engine: Engine = "auto"
) -> Detection:
    """All faces of a photo, largest first; looks again with a margin, then larger, where it finds none.

    YuNet runs in ONNX Runtime or, with the engine "torch", in OpenCV.
    """
    find = _find_with(detector, engine)
    boxes: list[Box] = []
    for pixels, scale, margin in _looks(photo.pixels):
        boxes = [_to_photo(box, scale, margin) for box in find(pixels)]
        boxes = [box for box in boxes if _inside(box, photo.pixels)]
        if any(box.size >= min_face for box in boxes):
            break
    boxes.sort(key=lambda box: -box.size)
    return Detection(
        tuple(b for b in boxes if b.size >= min_face), tuple(b for b in boxes if b.size < min_face)
    )


def _looks(pixels: Pixels):
    """Copies to search, each with its scale (copy over photo) and margin (copy pixels)."""
    long_side = max(pixels.shape[:2])
    scale = min(1.0, LONG_SIDES[0] / long_side)
    copy = _resized(pixels, scale)
    yield copy, scale, 0
    # A face that fills the frame is found once it has surroundings.
    scale = min(1.0, LONG_SIDES[0] / 2 / long_side)
    copy = _resized(pixels, scale)
    margin = max(copy.shape[:2]) // 2
    yield cv2.copyMakeBorder(copy, margin, margin, margin, margin, cv2.BORDER_REPLICATE), scale, margin
    scale = min(2.0, LONG_SIDES[1] / long_side)
    yield _resized(pixels, scale), scale, 0


def _resized(pixels: Pixels, scale: float) -> UInt8[np.ndarray, "new_height new_width 3"]:
    if scale == 1.0:
        return pixels
    size = tuple(max(1, round(side * scale)) for side in (pixels.shape[1], pixels.shape[0]))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _to_photo(box: Box, scale: float, margin: int) -> Box:
    points = None if box.points is None else (box.points - margin) / scale
    x, y, width, height = (np.array([box.x - margin, box.y - margin, box.width, box.height]) / scale).tolist()
    return Box(x, y, width, height, box.score, points)


def _inside(box: Box, pixels: Pixels) -> bool:
    """Whether the face's centre lies on the photo, not in the replicated margin."""
    height, width = pixels.shape[:2]
    return 0 <= box.x + box.width / 2 <= width and 0 <= box.y + box.height / 2 <= height


def _find_with(detector: str, engine: Engine) -> Callable[[Pixels], list[Box]]:
    finders = {"yunet": _find_yunet_fast if uses_onnxruntime(engine) else _find_yunet, "haar": _find_haar}
    if detector not in finders:
        raise ValueError(f"A face detector is one of {', '.join(finders)}; {detector!r} came.")
    return finders[detector]


# One network per thread: OpenCV's networks hold their buffers and may not be shared.
_networks = threading.local()


def _find_yunet(pixels: Pixels) -> list[Box]:
    height, width = pixels.shape[:2]
    if not hasattr(_networks, "yunet"):
        _networks.yunet = _load_yunet()
    _networks.yunet.setInputSize((width, height))
    _, rows = _networks.yunet.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return _boxes_of_rows(np.zeros((0, 15)) if rows is None else rows.astype(np.float64))


def _find_yunet_fast(pixels: Pixels) -> list[Box]:
    from mofaface.yunet import yunet  # needs packages that not every installation has

    return _boxes_of_rows(yunet(YUNET_PATH)(pixels, YUNET_SCORE))


def _boxes_of_rows(rows: Float[np.ndarray, "faces 15"]) -> list[Box]:
    return [_box(row[:4], row[14], row[4:14].reshape(5, 2)) for row in rows if row[2:4].min() > 0]


def _box(sides: np.ndarray, score: float, points: np.ndarray | None = None) -> Box:
    x, y, width, height = map(float, sides)
    return Box(x, y, width, height, float(score), points)


def _load_yunet() -> cv2.FaceDetectorYN:
    # From memory: OpenCV cannot open every path that Python can.
    model = np.frombuffer(YUNET_PATH.read_bytes(), np.uint8)
    return cv2.FaceDetectorYN.create("onnx", model, np.zeros(0, np.uint8), (320, 320), YUNET_SCORE, 0.3, 500)


def _find_haar(pixels: Pixels) -> list[Box]:
    if not hasattr(_networks, "haar"):
        _networks.haar = _load_cascade()
    grey = cv2.equalizeHist(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    rows, _, weights = _networks.haar.detectMultiScale3(
        grey, 1.1, 3, minSize=(20, 20), outputRejectLevels=True
    )
    return [_box(row, weight) for row, weight in zip(rows, np.ravel(weights), strict=True)]


def _load_cascade():
    if not hasattr(cv2, "CascadeClassifier"):
        raise ValueError(
            f"The Haar detector needs OpenCV below 5; {cv2.__version__} is installed; "
            "`pip install 'opencv-python-headless<5'` or use the yunet detector."
        )
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")

"""478 points on a face by Google's FaceLandmarker network, a confidence each, and the 68 landmarks from them.

Two passes: the second looks at an upright square laid around the points of the first. A point's confidence is
the product of three numbers in [0, 1]: is there a face (presence), do the passes agree, and does the point
look towards the camera (from the mesh's own depth).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from mofaface.crop import Box, sample_square
from mofaface.photo import Photo
from mofaface.similarity import Similarity

NETWORK_PATH = Path(__file__).parent / "assets" / "face_landmarks_detector.tflite"
INPUT_SIZE = 256
SQUARE_PER_BOX = 1.5
RIGHT_EYE_OUTER, LEFT_EYE_OUTER, RIGHT_CHEEK, LEFT_CHEEK, FOREHEAD, CHIN = 33, 263, 234, 454, 10, 152
# Disagreement (in distances between the outer eye corners) at which a point's confidence falls to 1/e.
AGREEMENT_SCALE = 0.05

# The mesh points of each of the 68 landmarks; where there are several, their mean, and one may count twice. On brows, nose
# and outer lips they were chosen to lie where the usual markup has the landmarks (docs/corpus.md).
MESH_OF_68: tuple[tuple[int, ...], ...] = (
    (127,), (234,), (93, 132), (132, 58), (58, 172), (136,), (150,), (176,), (152,), (400,), (379,),
    (365,), (288, 397), (361, 288), (323, 361), (454,), (356,),
    (70,), (63, 63, 105), (66, 105, 105), (66,), (66, 107, 107),
    (296, 336, 336), (296,), (296, 334, 334), (293, 293, 334), (300,),
    (168, 6), (197, 195), (4, 195), (4, 1),
    (97, 98), (20, 167), (2, 164), (250, 393), (326, 327),
    (33,), (160,), (158,), (133,), (153,), (144,),
    (362,), (385,), (387,), (263,), (373,), (380,),
    (61,), (40, 73), (0, 37, 37), (0,), (0, 267, 267), (270, 303),
    (291,), (321, 405), (314,), (17,), (84,), (91, 181),
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),
)  # fmt: skip


@dataclass(frozen=True)
class FaceMesh:
    """478 points in photo pixels (z in pixels too, smaller is nearer), a confidence each, the presence logit,
    the passes' median disagreement (in outer-eye distances) and the head's yaw (radians)."""

    points: Float[np.ndarray, "478 3"]
    confidence: Float[np.ndarray, "478"]
    presence: float
    disagreement: float
    yaw: float

    @property
    def landmarks_68(self) -> Float[np.ndarray, "68 2"]:
        """The 68 landmarks, photo pixels."""
        return self.places(MESH_OF_68)

    @property
    def confidence_68(self) -> Float[np.ndarray, "68"]:
        """Their confidences in [0, 1]."""
        return self.confidences(MESH_OF_68)

    def places(self, lists: Sequence[Sequence[int]]) -> Float[np.ndarray, "lists 2"]:
        """The mean of each list's points, photo pixels."""
        return np.stack([self.points[list(ids), :2].mean(0) for ids in lists])

    def confidences(self, lists: Sequence[Sequence[int]]) -> Float[np.ndarray, "lists"]:
        """The least confidence of each list's points."""
        return np.stack([self.confidence[list(ids)].min() for ids in lists])


def find_mesh(photo: Photo, box: Box) -> FaceMesh:
    """The face mesh of the face in a box."""
    points, _ = _pass(photo, square_of_box(box))
    if box.points is None:  # a bare box says nothing of the head's roll: one more look
        points, _ = _pass(photo, square_of_points(points))
    first = points
    points, presence = _pass(photo, square_of_points(first))
    eye_distance = float(np.linalg.norm(points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER])) + 1e-6
    apart = np.linalg.norm(points[:, :2] - first[:, :2], axis=1) / eye_distance
    agreement = np.exp(-((apart / AGREEMENT_SCALE) ** 2))
    confidence = presence_confidence(presence) * agreement * towards_camera(points)
    return FaceMesh(points, confidence, presence, float(np.median(apart)), yaw_of(points))


def presence_confidence(logit: float) -> float:
    """The chance that this is a face: faces have logits about +18, other things below -2."""
    return float(1.0 / (1.0 + np.exp(-(logit - 1.0) / 1.5)))


def yaw_of(points: Float[np.ndarray, "478 3"]) -> float:
    """The head's turn about its vertical axis, radians, positive when it looks to the picture's right."""
    across = points[LEFT_CHEEK] - points[RIGHT_CHEEK]
    return float(np.arctan2(across[2], np.linalg.norm(across[:2])))


def towards_camera(points: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "478"]:
    """How far each point faces the camera, 0 to 1; the head is taken as a ball around a centre
    between the cheeks."""
    across = points[LEFT_CHEEK] - points[RIGHT_CHEEK]
    up = points[FOREHEAD] - points[CHIN]
    inwards = np.cross(across, up)
    inwards *= np.linalg.norm(across) / (np.linalg.norm(inwards) + 1e-6)
    if inwards @ (points[4] - points[[RIGHT_CHEEK, LEFT_CHEEK]].mean(0)) > 0:
        inwards = -inwards
    centre = points[[RIGHT_CHEEK, LEFT_CHEEK]].mean(0) + 0.1 * inwards
    outwards = points - centre
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True) + 1e-6
    return np.clip(-outwards[:, 2] / 0.4, 0.0, 1.0)


def square_of_box(box: Box) -> Similarity:
    """Photo from network input for the first pass: around the box, upright by the eyes if known."""
    centre = np.array([box.x + box.width / 2, box.y + box.height / 2])
    angle = 0.0
    if box.points is not None:
        across = box.points[1] - box.points[0]
        angle = float(np.arctan2(across[1], across[0]))
    return _square(centre, SQUARE_PER_BOX * max(box.width, box.height), angle)


def square_of_points(points: Float[np.ndarray, "478 3"]) -> Similarity:
    """Photo from network input for a further pass: upright by the eye corners, around all points."""
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    angle = float(np.arctan2(across[1], across[0]))
    turn = Similarity(1.0, angle, 0.0, 0.0)
    upright = turn.inverse().apply(points[:468, :2])
    low, high = upright.min(0), upright.max(0)
    return _square(turn.apply((low + high) / 2), SQUARE_PER_BOX * float((high - low).max()), angle)


def _square(centre: np.ndarray, side: float, angle: float) -> Similarity:
    side = max(side, 1.0)
    turn = Similarity(side / INPUT_SIZE, angle, 0.0, 0.0)
    tx, ty = centre - turn.apply(np.full(2, INPUT_SIZE / 2))
    return Similarity(turn.scale, turn.angle, float(tx), float(ty))


_networks = threading.local()


def _pass(photo: Photo, photo_from_input: Similarity) -> tuple[Float[np.ndarray, "478 3"], float]:
    """Points in photo pixels and the presence logit, from one look at a square of the photo."""
    if not hasattr(_networks, "mesh"):
        _networks.mesh = cv2.dnn.readNetFromTFLite(np.frombuffer(NETWORK_PATH.read_bytes(), np.uint8))
    picture = sample_square(photo.pixels, photo_from_input, INPUT_SIZE)
    _networks.mesh.setInput(cv2.dnn.blobFromImage(picture, 1.0 / 255.0))
    flat, presence = _networks.mesh.forward(["Identity", "Identity_1"])
    raw = flat.reshape(478, 3).astype(np.float64)
    flat_photo = photo_from_input.apply(raw[:, :2])
    return np.column_stack([flat_photo, raw[:, 2] * photo_from_input.scale]), float(presence.ravel()[0])

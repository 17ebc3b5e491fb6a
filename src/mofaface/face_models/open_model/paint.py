"""Where things are on the face: soft masks in [0, 1] per vertex, painted on the undeformed base face (mm).

Positions here are those of base.obj: the subject's right at -x, eyes at y = 728, lips at about y = 655.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import PchipInterpolator

from mofaface.face_models.open_model.sources import Source, read_mask, sample_mask

EYE_CENTRE = (30.78, 728.42)
IRIS_RADIUS, PUPIL_RADIUS = 6.0, 2.3
BROW_X = (9.0, 20.0, 36.0, 50.0, 60.0)
BROW_Y = (745.6, 748.0, 750.0, 746.4, 740.0)
BROW_HALF_WIDTH = (2.6, 3.4, 2.9, 2.0, 0.9)
BEARD_X = (0.0, 14.0, 24.0, 34.0, 46.0, 56.0, 62.0, 70.0)
BEARD_Y = (640.0, 640.0, 646.0, 650.0, 652.0, 662.0, 682.0, 722.0)
MASK_BLUR = 5.0  # pixels of the 2048-pixel masks; softens the painted edges


@dataclass(frozen=True)
class Canvas:
    """The undeformed base face at full resolution; part 0 is skin, 1 the left and 2 the right eyeball."""

    positions: Float[np.ndarray, "vertices 3"]
    uv: Float[np.ndarray, "vertices 2"]
    part: Int[np.ndarray, "vertices"]
    lip_side: Float[np.ndarray, "vertices"]  # positive nearer to the upper lip's inner rim
    upper_lid: Float[np.ndarray, "left_and_right_upper 3"]  # points along the lids' margins
    lower_lid: Float[np.ndarray, "left_and_right_lower 3"]


def smoothstep(x: Float[np.ndarray, "*n"], low: float, high: float) -> Float[np.ndarray, "*n"]:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def texture_mask(source: Source, canvas: Canvas, name: str) -> Float[np.ndarray, "vertices"]:
    """One of MakeHuman's UV masks at each skin vertex, with softened edges."""
    image = cv2.GaussianBlur(read_mask(source, f"data/mpfb2/textures/mpfb_{name}.jpg"), (0, 0), MASK_BLUR)
    return sample_mask(image, canvas.uv) / 255.0 * (canvas.part == 0)


def brow_mask(
    canvas: Canvas, thickness: float = 1.0, shift: float = 0.0, softness: float = 1.5
) -> Float[np.ndarray, "vertices"]:
    """Both brows; `thickness` scales their width, `shift` lifts them, `softness` is the edge's width (mm)."""
    x, y = np.abs(canvas.positions[:, 0]), canvas.positions[:, 1]
    inside = np.clip(x, BROW_X[0], BROW_X[-1])
    distance = np.abs(y - shift - PchipInterpolator(BROW_X, BROW_Y)(inside))
    edge = thickness * np.interp(x, BROW_X, BROW_HALF_WIDTH)
    across = 1 - smoothstep(distance - edge, -softness, softness)
    along = smoothstep(x, BROW_X[0] - 3.0, BROW_X[0] + 6.0) * (
        1 - smoothstep(x, BROW_X[-1] - 9.0, BROW_X[-1] + 2.0)
    )
    return across * along * (canvas.part == 0)


def beard_mask(canvas: Canvas, lips: Float[np.ndarray, "vertices"]) -> Float[np.ndarray, "vertices"]:
    """Chin, jaw, sideburns and moustache."""
    x, y = np.abs(canvas.positions[:, 0]), canvas.positions[:, 1]
    jaw = 1 - smoothstep(y - np.interp(x, BEARD_X, BEARD_Y), -14.0, 7.0)
    moustache = (
        (1 - smoothstep(x, 22.0, 31.0)) * smoothstep(y, 652.0, 656.0) * (1 - smoothstep(y, 667.0, 673.0))
    )
    return np.maximum(jaw, 0.9 * moustache) * np.clip(1 - 1.5 * lips, 0, 1) * (canvas.part == 0)


def blob(canvas: Canvas, x: float, y: float, width: float, height: float) -> Float[np.ndarray, "vertices"]:
    """A soft ellipse at (±x, y)."""
    u = (np.abs(canvas.positions[:, 0]) - x) / width
    v = (canvas.positions[:, 1] - y) / height
    return np.exp(-0.5 * (u * u + v * v)) * (canvas.part == 0)


def near_points(
    canvas: Canvas, points: Float[np.ndarray, "points 3"], reach: float
) -> Float[np.ndarray, "vertices"]:
    """1 on the points, fading to 0 at `reach` mm from the nearest; skin only."""
    distance = np.linalg.norm(canvas.positions[:, None] - points[None], axis=2).min(axis=1)
    return (1 - smoothstep(distance, 0.3 * reach, reach)) * (canvas.part == 0)


def eye_radius(canvas: Canvas) -> Float[np.ndarray, "vertices"]:
    """Distance from the pupil's centre on the eyeball in mm; infinite on skin."""
    offset = np.abs(canvas.positions[:, 0]) - EYE_CENTRE[0], canvas.positions[:, 1] - EYE_CENTRE[1]
    return np.where(canvas.part > 0, np.hypot(*offset), np.inf)


def regions(
    canvas: Canvas, lips: np.ndarray, eyelids: np.ndarray, mouth: Bool[np.ndarray, "vertices"]
) -> dict[str, Int[np.ndarray, "_"]]:
    """Vertex numbers of the named regions; left and right are the subject's."""
    x, y, z = canvas.positions.T
    skin, left = canvas.part == 0, x > 0
    beard, brow = beard_mask(canvas, lips), brow_mask(canvas)
    face = skin & ~mouth
    masks = {
        "skin": skin,
        "lips": lips > 0.5,
        "upper_lip": (lips > 0.5) & (canvas.lip_side > 0),
        "lower_lip": (lips > 0.5) & (canvas.lip_side <= 0),
        "mouth_inside": mouth,
        "left_brow": (brow > 0.4) & left,
        "right_brow": (brow > 0.4) & ~left,
        "left_eye": canvas.part == 1,
        "right_eye": canvas.part == 2,
        "left_eyelid": (eyelids > 0.5) & left,
        "right_eyelid": (eyelids > 0.5) & ~left,
        "nose": face
        & (np.abs(x) < np.interp(y, [668, 690, 725], [21, 15, 8]))
        & (y > 668)
        & (y < 728)
        & (z > 135),
        "beard": beard > 0.5,
        "forehead": face & (y > 756),
        "left_cheek": face & left & (np.hypot((np.abs(x) - 42) / 20, (y - 686) / 22) < 1),
        "right_cheek": face & ~left & (np.hypot((np.abs(x) - 42) / 20, (y - 686) / 22) < 1),
        "chin": face & (np.abs(x) < 22) & (y < 638),
    }
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}

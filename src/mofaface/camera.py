"""The pinhole camera: from model space to camera space to pixels.

Model space: millimetres, right-handed, +x to the subject's left, +y up, +z out of the face.
Camera space (OpenCV): x right, y down, z forward. Pixel (0, 0) is the corner of the image.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Turns model axes into camera axes for a frontal face: y and z change sign.
MODEL_TO_CAMERA_AXES = (1.0, -1.0, -1.0)


@dataclass(frozen=True)
class Camera:
    """The camera that every crop is seen with; the paper gives none of these numbers."""

    focal: float = 1000.0
    """Focal length in pixels of the crop; with `distance`, one pixel is about one millimetre."""
    size: int = 240
    """Width and height of the crop in pixels."""
    distance: float = 1000.0
    """Distance in millimetres from the camera to the head's origin for the zero code."""

    raised: float = 0.0
    """How far the principal point lies above the crop's centre, pixels: where the average face of the crops lies."""

    def __post_init__(self) -> None:
        if min(self.focal, self.size, self.distance) <= 0:
            raise ValueError(f"a camera needs positive focal length, size and distance, got {self}")

    def K(self) -> Float[Tensor, "3 3"]:
        """The intrinsic matrix in pixels of the crop, float64."""
        f, (cx, cy) = self.focal, self.principal
        return torch.tensor([[f, 0, cx], [0, f, cy], [0, 0, 1]], dtype=torch.float64)

    @property
    def nearest(self) -> float:
        """Depth in mm at which points that are nearer are projected."""
        return 0.1 * self.distance

    @property
    def principal(self) -> tuple[float, float]:
        """The principal point in pixels of the crop."""
        return self.size / 2, self.size / 2 - self.raised


def extrinsics(
    T: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"], camera: Camera
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """R_camera_model and t_camera (mm) with x_camera = R_camera_model x_model + t_camera.

    Φ(v) = T⁻¹(v − t) of section 5, in camera axes. T is the camera's orientation, and the camera's place
    is expressed in its own axes, t = −T F ((0, 0, distance) + translation): a code that only
    turns then turns the head about its origin instead of throwing it out of the picture.
    """
    F = T.new_tensor(MODEL_TO_CAMERA_AXES)
    offset = translation.new_tensor((0.0, 0.0, camera.distance))
    return F[:, None] * T.mT, translation + offset


def project(x_camera: Float[Tensor, "*batch 3"], camera: Camera) -> Float[Tensor, "*batch 2"]:
    """Places in pixels of the crop where points in camera space (mm) are seen (Π, full perspective).

    Points nearer than a tenth of the camera's distance are projected as if they lay there: a network's
    wild guess then gives a large, finite error instead of a division by zero.
    """
    z = x_camera[..., 2:].clamp(min=camera.nearest)
    return camera.focal * x_camera[..., :2] / z + x_camera.new_tensor(camera.principal)


@dataclass(frozen=True)
class PosedCamera:
    """A camera with its pose: x_camera = R x_model + t, then K; float64, pixels of its own picture."""

    K: Float[Tensor, "3 3"]
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]
    size: tuple[int, int]
    """Width and height in pixels."""

    def project(self, x_model: Float[Tensor, "points 3"]) -> Float[Tensor, "points 2"]:
        """Places in pixels where points in model space (mm) are seen."""
        x = (x_model @ self.R.mT + self.t) @ self.K.mT
        return x[:, :2] / x[:, 2:]

    def moved(
        self, scale: float, angle: float, shift: tuple[float, float], size: tuple[int, int]
    ) -> "PosedCamera":
        """The camera of a picture whose pixels are p' = scale · Rot(angle) p + shift, p the pixels of this one.

        A turn of the picture is a turn of the camera about its axis, so K keeps its form without skew.
        """
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
        K = self.K.clone()
        K[:2, :2] *= scale
        K[:2, 2] = scale * (turn[:2, :2] @ self.K[:2, 2]) + torch.tensor(shift, dtype=torch.float64)
        return PosedCamera(K, turn @ self.R, turn @ self.t, size)

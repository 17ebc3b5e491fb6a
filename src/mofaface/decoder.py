"""The decoder: from a code to where every vertex is seen and in which colour (equations 1 to 6).

No pixel is rendered: each vertex has a place in the picture and a colour, and the loss compares it with the photograph
there. That is what makes image formation analytic and differentiable.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mofaface.camera import Camera, extrinsics, project
from mofaface.code import Code
from mofaface.face_model import FaceModel
from mofaface.harmonics import quadratic_form
from mofaface.mesh import vertex_normals
from mofaface.rotation import rotation_matrix

# "The ambient coefficients of our renderer have an offset of 0.7" (section 7).
AMBIENT = 0.7


@dataclass(frozen=True)
class Face:
    """A batch of decoded faces; one row per vertex."""

    x_camera: Float[Tensor, "batch vertices 3"]
    """Places in camera space, mm."""
    n_camera: Float[Tensor, "batch vertices 3"]
    """Unit normals in camera space."""
    reflectance: Float[Tensor, "batch vertices 3"]
    """Skin reflectance, RGB."""
    shading: Float[Tensor, "batch vertices 3"]
    """Radiosity of a white surface, RGB."""
    colour: Float[Tensor, "batch vertices 3"]
    """c_i, reflectance times shading, RGB."""
    uv_crop: Float[Tensor, "batch vertices 2"]
    """u_i, the place in the crop in pixels."""
    front: Bool[Tensor, "batch vertices"]
    """V: true where the vertex faces the camera and belongs to the frontal part."""
    frontal: Bool[Tensor, "vertices"]
    """The part of the face that is compared with photographs; N is its size."""


class Decoder(nn.Module):
    """F(x): the image formation model for one face model and one camera (equation 5)."""

    def __init__(self, model: FaceModel, camera: Camera | None = None):
        super().__init__()
        self.model = model
        self.camera = camera or Camera()

    def forward(self, code: Code) -> Face:
        """The faces of a batch of codes."""
        x_model = self.model.geometry(code.alpha, code.delta)
        n_model = vertex_normals(x_model, self.model.triangles)
        R_camera_model, t_camera = extrinsics(rotation_matrix(code.rotation), code.translation, self.camera)
        x_camera = x_model @ R_camera_model.mT + t_camera[:, None]
        n_camera = n_model @ R_camera_model.mT
        reflectance = self.model.reflectance(code.beta)
        shading = illuminate(n_camera, code.gamma)
        return Face(
            x_camera=x_camera,
            n_camera=n_camera,
            reflectance=reflectance,
            shading=shading,
            colour=reflectance * shading,
            uv_crop=project(x_camera, self.camera),
            front=front_facing(x_camera, n_camera) & self.model.frontal,
            frontal=self.model.frontal,
        )


def illuminate(
    n: Float[Tensor, "batch points 3"], gamma: Float[Tensor, "batch 9 3"]
) -> Float[Tensor, "batch points 3"]:
    """Σ_b γ_b H_b(n) with the ambient offset: the radiosity of a white surface, RGB (equation 4).

    Three bands of harmonics are one quadratic form n·(Q n + l) + m for each channel, which moves a third of the memory
    of evaluating nine functions.
    """
    offset = gamma.new_zeros(9, 1)
    offset[0] = AMBIENT
    Q, l, m = quadratic_form(gamma + offset)
    gradient = torch.baddbmm(l.flatten(-2)[:, None], n, Q.mT.flatten(1, 2).mT)
    return (gradient.unflatten(-1, (3, 3)) * n[:, :, None]).sum(-1) + m[:, None]


def front_facing(
    x_camera: Float[Tensor, "batch points 3"], n_camera: Float[Tensor, "batch points 3"]
) -> Bool[Tensor, "batch points"]:
    """True where the normal turns towards the camera, which lies at the origin of camera space."""
    return (x_camera * n_camera).sum(-1) < 0

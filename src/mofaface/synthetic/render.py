"""From a code to a picture: face, head and what is worn in one z-buffer, shaded sample by sample, averaged to pixels.

The face's samples have the decoder's colours exactly: interpolated reflectance times the shading of the interpolated,
normalised normal (equation 4), cut to [0, 1]. Everything beside the face is lit by the same light.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64

from mofaface.camera import Camera, extrinsics
from mofaface.code import Code
from mofaface.decoder import AMBIENT, Decoder, Face
from mofaface.face_model import FaceModel
from mofaface.harmonics import quadratic_form
from mofaface.rasterizer import Fragments, _compiled, rasterize
from mofaface.rotation import rotation_matrix
from mofaface.synthetic.pieces import Piece

# A vertex this far behind the nearest surface at its sample, mm, is still seen: eyeballs lie closely behind lids.
NEAR = 0.8


@dataclass(frozen=True)
class Rendering:
    """A picture before anything is done to it."""

    colour: Float32[np.ndarray, "size size 3"]
    """sRGB in [0, 1], black where the background is seen: multiplied by `alpha`."""
    alpha: Float32[np.ndarray, "size size 1"]
    """How much of each pixel is covered."""
    behind: Float32[np.ndarray, "vertices"]
    """How far each vertex of the face lies behind what is seen in its place, mm; infinite outside the picture."""

    @property
    def visible(self) -> Bool[np.ndarray, "vertices"]:
        """Vertices of the face that nothing hides and that lie inside the picture."""
        return self.behind <= NEAR


class Renderer:
    """Renders faces of one model."""

    def __init__(self, model: FaceModel, supersample: int):
        self.model, self.supersample = model, supersample
        self.triangles = model.triangles.numpy()

    @torch.no_grad()
    def decode(self, code: Code, camera: Camera) -> Face:
        """The face of a batch of one."""
        return Decoder(self.model, camera)(code)

    def __call__(self, code: Code, camera: Camera, face: Face, pieces: list[Piece]) -> Rendering:
        """The picture of a batch of one among pieces in model space."""
        R, t = (
            part[0].numpy() for part in extrinsics(rotation_matrix(code.rotation), code.translation, camera)
        )
        x = np.concatenate([face.x_camera[0].numpy(), *(p.x.astype(np.float32) @ R.T + t for p in pieces)])
        n = np.concatenate([face.n_camera[0].numpy(), *(p.n.astype(np.float32) @ R.T for p in pieces)])
        skin = np.concatenate(
            [face.reflectance[0].numpy(), *(p.reflectance.astype(np.float32) for p in pieces)]
        )
        triangles = self._joined(pieces)
        uv = camera.focal * x[:, :2] / np.maximum(x[:, 2:], 1.0) + np.array(camera.principal, np.float32)
        fragments = rasterize(
            uv * self.supersample, x[:, 2], triangles, *(camera.size * self.supersample,) * 2
        )
        picture = np.zeros((camera.size, camera.size, 4), np.float32)
        _shade(fragments.triangle_index, fragments.barycentric, triangles, n, skin, _light(code), picture)
        picture /= self.supersample**2
        return Rendering(picture[..., :3], picture[..., 3:], self._behind(face, fragments))

    def _joined(self, pieces: list[Piece]) -> Int64[np.ndarray, "triangles 3"]:
        triangles, first = [self.triangles], self.model.vertices
        for piece in pieces:
            triangles.append(piece.triangles + first)
            first += len(piece.x)
        return np.concatenate(triangles)

    def _behind(self, face: Face, fragments: Fragments) -> Float32[np.ndarray, "vertices"]:
        place = np.floor(face.uv_crop[0].numpy() * self.supersample)
        size = len(fragments.depth)
        inside = ((place >= 0) & (place < size)).all(1)
        column, row = place.clip(0, size - 1).astype(np.int64).T
        return np.where(
            inside, face.x_camera[0, :, 2].numpy() - fragments.depth[row, column], np.float32(np.inf)
        )


def _light(code: Code) -> Float32[np.ndarray, "13 3"]:
    """In columns, for each channel, Q row by row, l and m: shading is n·(Q n + l) + m."""
    offset = torch.zeros(9, 1)
    offset[0] = AMBIENT
    Q, l, m = quadratic_form(code.gamma[0] + offset)
    rows = torch.cat((Q.flatten(-2), l, m[:, None]), -1)
    return np.ascontiguousarray(rows.T.numpy(), np.float32)


@_compiled
@no_type_check
def _shade(
    index: Int32[np.ndarray, "fine fine"],
    barycentric: Float32[np.ndarray, "fine fine 3"],
    triangles: Int64[np.ndarray, "triangles 3"],
    normals: Float32[np.ndarray, "vertices 3"],
    reflectance: Float32[np.ndarray, "vertices 3"],
    light: Float32[np.ndarray, "13 3"],
    picture: Float32[np.ndarray, "size size 4"],
) -> None:
    """Adds to each pixel the colours of its samples, and to its fourth channel how many see something."""
    side = index.shape[0] // picture.shape[0]
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            t = index[y, x]
            if t < 0:
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            a, b, c = barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2]
            nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
            ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
            nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
            scale = np.float32(1.0) / max(np.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-9))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            row, column = y // side, x // side
            for q in range(3):
                shading = (
                    nx * (light[0, q] * nx + light[1, q] * ny + light[2, q] * nz + light[9, q])
                    + ny * (light[3, q] * nx + light[4, q] * ny + light[5, q] * nz + light[10, q])
                    + nz * (light[6, q] * nx + light[7, q] * ny + light[8, q] * nz + light[11, q])
                    + light[12, q]
                )
                skin = a * reflectance[i, q] + b * reflectance[j, q] + c * reflectance[k, q]
                picture[row, column, q] += min(max(shading * skin, np.float32(0.0)), np.float32(1.0))
            picture[row, column, 3] += np.float32(1.0)

"""The derivative of every vertex's place and colour by the code: B_i of equation 6, assembled.

Each small map (projection, light, rotation, reading the image) is differentiated by torch on its own; the
chain over the linear face model is written out, so that the whole 5N × 257 matrix costs a few products of
matrices. Everything is exact, the one-ring normals included.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mofaface.camera import MODEL_TO_CAMERA_AXES, project
from mofaface.code import Code
from mofaface.decoder import Decoder, Face, illuminate
from mofaface.harmonics import harmonics
from mofaface.mesh import face_normals
from mofaface.rotation import rotation_matrix
from mofaface.sampling import sample_bilinear


@dataclass(frozen=True)
class Motion:
    """How one code's vertices and normals move in camera space with shape, expression and pose."""

    dx: Float[Tensor, "vertices 3 moving"]
    """mm per unit of the code."""
    dn: Float[Tensor, "vertices 3 moving"]
    """Change of the unit normal per unit of the code."""


class NormalDerivative:
    """The sparse matrix that takes a motion of the vertices to the change of their one-ring area vectors.

    With f = (b − a) × (c − a), ∂f/∂a = [c − b]×, ∂f/∂b = [a − c]× and ∂f/∂c = [b − a]×: where an entry stands
    depends on the triangles alone and is found once.
    """

    def __init__(self, triangles: Int[Tensor, "faces 3"], vertices: int):
        self.triangles, self.vertices = triangles, vertices
        corners = torch.arange(3, device=triangles.device)
        p, q = (k.flatten() for k in torch.meshgrid(corners, corners, indexing="ij"))
        key = (triangles[:, p] * vertices + triangles[:, q]).flatten()
        pairs, self.pair_of = torch.unique(key, return_inverse=True)
        self.pairs = len(pairs)
        # The six entries of a cross product's matrix [e]×: row, column, component of e and its sign.
        cross = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1], [2, 1, 2, 0, 1, 0]], device=key.device)
        r, s, component = cross
        row = 3 * (pairs // vertices)[:, None] + r
        column = 3 * (pairs % vertices)[:, None] + s
        self.order = torch.argsort((row * 3 * vertices + column).flatten())
        self.places = torch.stack((row.flatten(), column.flatten()))[:, self.order]
        self.component = component
        self.sign = torch.tensor([-1, 1, 1, -1, -1, 1], device=key.device)

    def __call__(
        self, x: Float[Tensor, "vertices 3"], dx: Float[Tensor, "vertices 3 modes"]
    ) -> Float[Tensor, "vertices 3 modes"]:
        """Change of the vertices' area vectors (mm² per unit) at places x when the vertices move by dx."""
        a, b, c = (x[self.triangles[:, k]] for k in range(3))
        opposite = torch.stack((c - b, a - c, b - a), 1)[:, [0, 1, 2] * 3].flatten(0, 1)
        edges = x.new_zeros(self.pairs, 3).index_add(0, self.pair_of, opposite)
        values = (self.sign * edges[:, self.component]).flatten()[self.order]
        size = (3 * self.vertices, 3 * self.vertices)
        M = torch.sparse_coo_tensor(self.places, values, size, is_coalesced=True, check_invariants=False)
        return (M @ dx.flatten(0, 1)).unflatten(0, (-1, 3))


class Linearisation:
    """Derivatives of a decoder's faces by the packed code. Codes and faces are batches of one."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.model = model = decoder.model
        self.normals = NormalDerivative(model.triangles, model.vertices)
        self.bases = torch.cat((model.shape_basis, model.expression_basis), -1)
        slices = model.layout.slices()
        parts = (slices[name] for name in ("alpha", "delta", "rotation", "translation"))
        self.moving = torch.cat([torch.arange(part.start, part.stop) for part in parts])

    def motion(self, code: Code) -> Motion:
        """How the vertices and normals of a code move."""
        model = self.model
        x = model.geometry(code.alpha, code.delta)[0]
        area = _area_vectors(x, model.triangles)
        length = area.norm(dim=-1).clamp(min=torch.finfo(x.dtype).tiny)
        n = area / length[:, None]
        d_area = self.normals(x, self.bases)
        dn_model = (d_area - n[:, :, None] * (n[:, None] @ d_area)) / length[:, None, None]
        R, dR = _camera_rotation(code.rotation[0])
        zero = torch.zeros_like(R).expand(len(x), 3, 3)
        dx = torch.cat((R @ self.bases, torch.einsum("abk,nb->nak", dR, x), zero + torch.eye(3).to(R)), -1)
        dn = torch.cat((R @ dn_model, torch.einsum("abk,nb->nak", dR, n), zero), -1)
        return Motion(dx, dn)

    def places(self, face: Face, motion: Motion, rows: Tensor) -> Float[Tensor, "rows 2 size"]:
        """Derivative of the places u_i in pixels, of the vertices `rows`."""
        J = motion.dx.new_zeros(*motion.dx[rows].shape[:1], 2, self.model.layout.size)
        J[:, :, self.moving] = self._projection(face.x_camera[0, rows]) @ motion.dx[rows]
        return J

    def residuals(
        self,
        image: Float[Tensor, "1 3 height width"],
        code: Code,
        face: Face,
        motion: Motion,
        rows: Tensor,
    ) -> Float[Tensor, "rows 3 size"]:
        """Derivative of I(u_i) − c_i, RGB, of the vertices `rows`."""
        slices = self.model.layout.slices()
        reflectance, shading = face.reflectance[0, rows], face.shading[0, rows]
        H, dshading = _light(face.n_camera[0, rows], code.gamma)
        seen = _image_gradient(image, face.uv_crop[:, rows]) @ self._projection(face.x_camera[0, rows])
        J = motion.dx.new_zeros(len(reflectance), 3, self.model.layout.size)
        J[:, :, self.moving] = seen @ motion.dx[rows] - (reflectance[:, :, None] * dshading) @ motion.dn[rows]
        J[:, :, slices["beta"]] = -shading[:, :, None] * self.model.reflectance_basis[rows]
        colours = torch.eye(3).to(J)
        light = reflectance[:, :, None, None] * H[:, None, :, None] * colours[:, None, :]
        J[:, :, slices["gamma"]] = -light.flatten(2)
        return J

    def _projection(self, x_camera: Float[Tensor, "points 3"]) -> Float[Tensor, "points 2 3"]:
        return _pointwise(lambda x: project(x, self.decoder.camera), x_camera)


def visible_rows(front: Bool[Tensor, "1 vertices"]) -> Int[Tensor, "rows"]:
    """Indices of the front-facing vertices."""
    return torch.nonzero(front[0])[:, 0]


def _area_vectors(
    x: Float[Tensor, "vertices 3"], triangles: Int[Tensor, "faces 3"]
) -> Float[Tensor, "vertices 3"]:
    f = face_normals(x, triangles)
    return torch.zeros_like(x).index_add(0, triangles.mT.flatten(), f.repeat(3, 1))


def _camera_rotation(w: Float[Tensor, "3"]) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3 3"]]:
    """R_camera_model of a rotation vector, and its derivative by the vector (last axis)."""
    F = w.new_tensor(MODEL_TO_CAMERA_AXES)[:, None]
    dT = torch.func.jacrev(rotation_matrix)(w)
    return F * rotation_matrix(w).mT, F[:, None] * dT.transpose(0, 1)


def _light(
    n: Float[Tensor, "points 3"], gamma: Float[Tensor, "1 9 3"]
) -> tuple[Float[Tensor, "points 9"], Float[Tensor, "points 3 3"]]:
    return harmonics(n), _pointwise(lambda n: illuminate(n[None], gamma)[0], n)


def _image_gradient(
    image: Float[Tensor, "1 3 height width"], uv: Float[Tensor, "1 points 2"]
) -> Float[Tensor, "points 3 2"]:
    return _pointwise(lambda uv: sample_bilinear(image, uv[None])[0], uv[0])


def _pointwise(function, points: Tensor) -> Tensor:
    """Jacobians (points, outputs, inputs) of a function that treats every point by itself."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        sums = function(points).sum(0)
        rows = [torch.autograd.grad(s, points, retain_graph=True)[0] for s in sums]
    return torch.stack(rows, 1)

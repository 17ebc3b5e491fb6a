"""The derivative of every vertex's place and colour by the code: B_i of equation 6, assembled.

Each small map (projection, light, rotation, reading the image) is differentiated by torch on its own; the
chain over the linear face model is written out, so that the whole 5N × 257 matrix costs a few products of
matrices. Everything is exact, the one-ring normals included.
"""

import warnings
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


class NormalDerivative:
    """The sparse matrix that takes a motion of the vertices to the change of their one-ring area vectors.

    With f = (b − a) × (c − a), ∂f/∂a = [c − b]×, ∂f/∂b = [a − c]× and ∂f/∂c = [b − a]×: where an entry stands
    depends on the triangles alone and is found once. Every vertex has as many places as the largest ring, the
    first its own; those left over hold zeros.
    """

    def __init__(self, triangles: Int[Tensor, "faces 3"], vertices: int):
        device = triangles.device
        corners = torch.arange(3, device=device)
        p, q = (k.flatten() for k in torch.meshgrid(corners, corners, indexing="ij"))
        itself = torch.arange(vertices, device=device) * (vertices + 1)
        key = torch.cat((itself, (triangles[:, p] * vertices + triangles[:, q]).flatten()))
        pairs, pair_of = torch.unique(key, return_inverse=True)
        row, column = pairs // vertices, pairs % vertices
        counts = torch.bincount(row, minlength=vertices)
        slot = torch.arange(len(pairs), device=device) - (counts.cumsum(0) - counts)[row]
        self.ring = torch.arange(vertices, device=device)[:, None].repeat(1, int(counts.max()))
        self.pair = torch.full_like(self.ring, len(pairs))
        self.own = slot[row == column]
        self.ring[row, slot], self.pair[row, slot] = column, torch.arange(len(pairs), device=device)
        # The edge opposite corner q runs from corner q + 1 to q + 2; inner edges of a pair's faces cancel.
        of = pair_of[vertices:].repeat(2)
        ends = torch.cat((triangles[:, (q + 2) % 3].flatten(), triangles[:, (q + 1) % 3].flatten()))
        signs = torch.ones(len(ends), dtype=torch.float64, device=device)
        signs[len(ends) // 2 :] = -1
        size = (len(pairs) + 1, vertices)
        places = torch.stack((of, ends))
        edges = torch.sparse_coo_tensor(places, signs, size, check_invariants=False).coalesce()
        kept = edges.values() != 0
        of, ends = edges.indices()[:, kept]
        starts = torch.searchsorted(of, torch.arange(size[0] + 1, device=device))
        self.edges, self.vertices = _sparse_rows(starts, ends, edges.values()[kept], size), vertices

    def edges_at(self, x: Float[Tensor, "vertices 3"]) -> Float[Tensor, "pairs 3"]:
        """The edge that each pair of neighbours sees (mm), for vertices at x."""
        if self.edges.dtype != x.dtype:
            self.edges = self.edges.to(x.dtype)
        return self.edges @ x

    def rows(
        self,
        edges: Float[Tensor, "pairs 3"],
        rows: Int[Tensor, "rows"],
        of_place: Float[Tensor, "rows k 3"],
        of_area: Float[Tensor, "rows k 3"],
    ) -> Tensor:
        """The sparse matrix (k·rows, 3·vertices) of of_place dx_i + of_area da_i, a_i the area vectors."""
        # A row m of a matrix times [e]× is m × e.
        blocks = torch.linalg.cross(of_area[:, :, None], edges[self.pair[rows]][:, None])
        blocks[torch.arange(len(rows)), :, self.own[rows]] += of_place
        columns = 3 * self.ring[rows][:, None, :, None] + torch.arange(3, device=rows.device)
        columns = columns.expand_as(blocks).flatten()
        k, width = of_area.shape[1], 3 * self.ring.shape[1]
        starts = torch.arange(k * len(rows) + 1, device=rows.device) * width
        size = (k * len(rows), 3 * self.vertices)
        return _sparse_rows(starts, columns, blocks.flatten(), size)


def _sparse_rows(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # PyTorch calls this layout beta once per process; the product used here is long settled.
        warnings.filterwarnings("ignore", message="Sparse CSR", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


@dataclass(frozen=True)
class Point:
    """A code where derivatives are taken, and what all of them share."""

    code: Code
    x: Float[Tensor, "vertices 3"]
    """Model space, mm."""
    n: Float[Tensor, "vertices 3"]
    """Unit normals in model space."""
    length: Float[Tensor, "vertices 1"]
    """Of the area vectors, mm²."""
    R: Float[Tensor, "3 3"]
    """R_camera_model."""
    dR: Float[Tensor, "3 3 3"]
    """Its derivative by the rotation vector (last axis)."""
    edges: Float[Tensor, "pairs 3"]
    """Of `NormalDerivative.edges_at`."""


class Linearisation:
    """Derivatives of a decoder's faces by the packed code. Codes and faces are batches of one."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.model = model = decoder.model
        self.normals = NormalDerivative(model.triangles, model.vertices)
        self.bases = torch.cat((model.shape_basis, model.expression_basis), -1)

    def at(self, code: Code) -> "Point":
        """What every derivative at a code shares."""
        x = self.model.geometry(code.alpha, code.delta)[0]
        area = _area_vectors(x, self.model.triangles)
        length = area.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        R, dR = _camera_rotation(code.rotation[0])
        return Point(code, x, area / length, length, R, dR, self.normals.edges_at(x))

    def places(self, point: "Point", face: Face, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows 2 size"]:
        """Derivative of the places u_i in pixels, of the vertices `rows`."""
        P = self._projection(face.x_camera[0, rows])
        return self._columns(
            geometry=P @ point.R @ self.bases[rows],
            rotation=P @ torch.einsum("abk,nb->nak", point.dR, point.x[rows]),
            translation=P,
        )

    def residuals(
        self,
        image: Float[Tensor, "1 3 height width"],
        point: "Point",
        face: Face,
        rows: Int[Tensor, "rows"],
        scale: Float[Tensor, "rows"],
    ) -> Float[Tensor, "rows 3 size"]:
        """Derivative of I(u_i) − c_i, RGB, of the vertices `rows`, each times its `scale`."""
        # The scale goes into what is small; everything is linear in these two.
        reflectance, shading = (scale[:, None] * c[0, rows] for c in (face.reflectance, face.shading))
        R, dR, n, length = point.R, point.dR, point.n[rows], point.length[rows]
        H, dshading = _light(face.n_camera[0, rows], point.code.gamma)
        gradient = scale[:, None, None] * _image_gradient(image, face.uv_crop[:, rows])
        seen = gradient @ self._projection(face.x_camera[0, rows])
        lit = reflectance[:, :, None] * dshading
        of_normal = lit @ R
        of_area = (of_normal - (of_normal @ n[:, :, None]) * n[:, None]) / length[:, None]
        M = self.normals.rows(point.edges, rows, seen @ R, -of_area)
        turned = seen @ torch.einsum("abk,nb->nak", dR, point.x[rows]) - lit @ torch.einsum(
            "abk,nb->nak", dR, n
        )
        light = reflectance[:, :, None, None] * H[:, None, :, None] * torch.eye(3).to(H)[:, None, :]
        return self._columns(
            geometry=(M @ self.bases.flatten(0, 1)).unflatten(0, (-1, 3)),
            rotation=turned,
            translation=seen,
            beta=-shading[:, :, None] * self.model.reflectance_basis[rows],
            gamma=-light.flatten(2),
        )

    def _columns(
        self, geometry: Float[Tensor, "rows k modes"], **parts: Tensor
    ) -> Float[Tensor, "rows k size"]:
        """The parts of a derivative at their places in the packed code; what is not given is zero."""
        first = next(iter(parts.values()))
        sizes = self.model.layout.sizes
        parts["alpha"], parts["delta"] = geometry.split((sizes["alpha"], sizes["delta"]), -1)
        zero = {name: first.new_zeros(*first.shape[:2], n) for name, n in sizes.items() if name not in parts}
        return torch.cat([(parts | zero)[name] for name in sizes], -1)

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

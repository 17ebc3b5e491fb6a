"""What a code leaves unexplained at some points of a face, and by how much each part of the code would have to change.

A cheap, approximate Gauss–Newton step of the photometric energy (equation 8), for a whole batch at once: geometry
with pose, reflectance and light are each solved for with the other two held, on some thousand points, and normals are
taken from three neighbours. It needs not be exact: a network corrects it (feedback.py). `jacobian.py` has the exact
derivatives.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mofaface.camera import Camera, extrinsics, project
from mofaface.code import Code
from mofaface.decoder import Decoder, front_facing, illuminate
from mofaface.face_model import FaceModel
from mofaface.harmonics import COUNT, harmonics
from mofaface.mesh import normalise
from mofaface.rotation import rotation_matrix
from mofaface.sampling import sample_bilinear

# The picture is read at half its size: its noise is less and its slopes reach further.
SHRINK = 2
# Weight of the photometric term, as in the loss, and those that damp a step: of the landmarks, which stay where they are
# seen, of the squares of α and δ, of the pose and of the light.
PHOTO, HELD, ALPHA, DELTA, POSE, LIGHT = 1.92, 10.0, 1e-4, 8e-5, 1e-5, 0.24
# Units of a pose step: a tenth of a radian, ten millimetres.
TURN, MOVE = 0.1, 10.0
# Share of the mean square of the reflectance basis that damps the reading of β.
RIDGE = 0.05
# Colour distances below this weigh alike, and shadows darker than this are not divided by.
LEAST_DISTANCE, LEAST_SHADING = 0.04, 0.25
MOST_RESIDUAL = 0.5
LANDMARKS = 68
# The matrix of the geometry's equations is computed from the first so many points, their right side from all: the one is
# expensive, the other is what decides where the step leads.
SOLVED = 512
# Half of the interval of the central difference by the rotation vector, radians.
_TURNED = 0.02


@dataclass(frozen=True)
class Evidence:
    """What was found at the points of a batch of faces."""

    places: Float[Tensor, "batch points 2"]
    """Where the points are seen, pixels of the crop."""
    residual: Float[Tensor, "batch points 3"]
    """The picture without the light, minus the reflectance; zero where a point is not seen."""
    step: Code
    """The change of each part of the code that would explain it, the other parts held."""


def choose_points(model: FaceModel, count: int) -> Int[Tensor, "{count} 4"]:
    """Vertices spread over the compared part of the face, the 68 landmarks first, each with three of its neighbours.

    Each next one is the vertex farthest from all before; neighbours follow each other counter-clockwise, seen from
    outside. Raises ValueError for fewer points than landmarks or more than there are vertices to compare.
    """
    coarse, kept = model.coarse(), model.arrays.coarse_vertices
    x = coarse.mean_shape
    chosen = coarse.landmarks_68.tolist()
    most = max(int(coarse.frontal.sum()), len(chosen))
    if not len(chosen) <= count <= most:
        raise ValueError(f"{len(chosen)} to {most} points of this face model can be compared, got {count}")
    nearest = torch.where(coarse.frontal, torch.cdist(x, x[chosen]).amin(1), -1.0)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (x - x[chosen[-1]]).norm(dim=-1))
    rings = _rings(coarse.triangles, chosen)
    rows = [[v, *(rings[v][k * len(rings[v]) // 3] for k in range(3))] for v in chosen]
    if kept is not None and len(kept) == coarse.vertices:
        return torch.from_numpy(kept.astype(np.int64))[torch.tensor(rows)]
    return torch.tensor(rows)


def _rings(triangles: Int[Tensor, "faces 3"], vertices: list[int]) -> dict[int, list[int]]:
    """The neighbours of some vertices in the order around each; at a border of the mesh, the vertex itself comes last."""
    edges: dict[int, dict[int, int]] = {v: {} for v in vertices}
    for corners in triangles.tolist():
        for k in range(3):
            if corners[k] in edges:
                edges[corners[k]][corners[(k + 1) % 3]] = corners[(k + 2) % 3]
    rings = {}
    for v, following in edges.items():
        starts = set(following) - set(following.values()) or set(following)
        first = next(u for u in following if u in starts)
        ring = [first]
        while ring[-1] in following and following[ring[-1]] != first:
            ring.append(following[ring[-1]])
        rings[v] = ring if len(ring) > 2 else [*ring, v]
    return rings


class FacePoints(nn.Module):
    """Some points of a face model, what a code says of them, and what a picture says of the code.

    Only the choice of points is saved; everything else is read from the face model again.
    """

    points: Tensor
    mean_shape: Tensor
    shape_basis: Tensor
    places: Tensor
    own_basis: Tensor
    mean_reflectance: Tensor
    reflectance_basis: Tensor
    reads_beta: Tensor
    compared: Tensor
    damping: Tensor

    def __init__(self, decoder: Decoder, count: int):
        super().__init__()
        self.camera: Camera = decoder.camera
        self.layout = decoder.model.layout
        # In a tuple: the face model is no part of the network.
        self._model = (decoder.model,)
        self.register_buffer("points", choose_points(decoder.model, count))
        self._read_model()

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*args, **kwargs)
        self._read_model()

    def _read_model(self) -> None:
        """Read the rows of the chosen points."""
        model, device = self._model[0], self.points.device
        points = self.points.to(model.mean_shape.device)
        if int(points.min()) < 0 or int(points.max()) >= model.vertices:
            raise ValueError(f"points are vertices of another face model than one of {model.vertices}")
        rows, places = torch.unique(points, return_inverse=True)
        own = points[:, 0]
        basis = torch.cat((model.shape_basis, model.expression_basis), -1)
        colours = model.reflectance_basis[own].flatten(0, 1)
        ridge = RIDGE * (colours**2).sum() / colours.shape[1]
        damped = colours.mT @ colours + ridge * torch.eye(colours.shape[1]).to(colours)
        shapes, expressions = model.shape_basis.shape[-1], model.expression_basis.shape[-1]
        sizes = ((ALPHA, shapes), (DELTA, expressions), (POSE, 6))
        for name, tensor in {
            "mean_shape": model.mean_shape[rows].flatten(),
            "shape_basis": basis[rows].flatten(0, 1).mT,
            "places": places,
            "own_basis": basis[own],
            "mean_reflectance": model.mean_reflectance[own].flatten(),
            "reflectance_basis": colours.mT,
            "reads_beta": torch.linalg.solve(damped, colours.mT).mT,
            "compared": model.frontal[own],
            "damping": torch.cat([torch.full((n,), weight).to(basis) for weight, n in sizes]),
        }.items():
            self.register_buffer(name, tensor.contiguous().to(device), persistent=False)

    @torch.no_grad()
    def forward(self, readings: Float[Tensor, "batch 9 half_height half_width"], code: Code) -> Evidence:
        """What a picture, prepared by `readings_of`, says of the codes."""
        V = torch.addmm(self.mean_shape, torch.cat((code.alpha, code.delta), -1), self.shape_basis)
        V = V.unflatten(-1, (-1, 3))
        R, t = extrinsics(rotation_matrix(code.rotation), code.translation, self.camera)
        # Each point and its three neighbours.
        x, a, b, c = (V @ R.mT + t[:, None]).index_select(1, self.places.mT.flatten()).chunk(4, 1)
        n = normalise(torch.linalg.cross(b - a, c - a))
        reflectance = torch.addmm(self.mean_reflectance, code.beta, self.reflectance_basis).unflatten(
            -1, (-1, 3)
        )
        shading, places = illuminate(n, code.gamma), project(x, self.camera)
        front = (front_facing(x, n) & self.compared).to(x)
        seen = sample_bilinear(readings, places / SHRINK)
        colour, slopes = seen[..., :3], seen[..., 3:].unflatten(-1, (2, 3)).mT
        missing = reflectance * shading - colour
        # The energy's distances are not squared: their steps are those of squares with these weights.
        weight = front / missing.norm(dim=-1).clamp(min=LEAST_DISTANCE) * (PHOTO / x.shape[1])
        residual = (colour / shading.clamp(min=LEAST_SHADING) - reflectance) * front[..., None]
        residual = residual.clamp(-MOST_RESIDUAL, MOST_RESIDUAL)
        V = (x - t[:, None]) @ R
        alpha_delta, turn, move = self._geometry(code, R, V, x, places, slopes, missing, weight)
        modes = code.alpha.shape[-1]
        step = Code(
            alpha=alpha_delta[:, :modes],
            delta=alpha_delta[:, modes:],
            beta=residual.flatten(1) @ self.reads_beta,
            rotation=turn,
            translation=move,
            gamma=_light(n, reflectance, missing, weight),
        )
        return Evidence(places, residual, step)

    def _geometry(
        self,
        code: Code,
        R: Float[Tensor, "batch 3 3"],
        V: Float[Tensor, "batch points 3"],
        x: Float[Tensor, "batch points 3"],
        places: Float[Tensor, "batch points 2"],
        slopes: Float[Tensor, "batch points channels 2"],
        missing: Float[Tensor, "batch points channels"],
        weight: Float[Tensor, "batch points"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step of (α, δ), of the rotation vector and of the translation, colours held."""
        J, turns = self._projected(x, places), self._turns(code)
        # How strongly each point is pulled, and what that is for every unknown.
        pull = (slopes * (missing * weight[..., None])[..., None]).sum(2)
        pull = (pull[:, :, None] @ J)[:, :, 0]
        modes = self.own_basis.shape[-1]
        along = (pull @ R).flatten(1) @ self.own_basis.flatten(0, 1)
        along = along - self.damping[:modes] * torch.cat((code.alpha, code.delta), -1)
        around = (turns * (pull.mT @ V)[:, None]).sum((2, 3))
        target = torch.cat((along, around, pull.sum(1) * MOVE), -1)
        first = slice(0, SOLVED)
        D = self._derivative(J[:, first], R, turns, V[:, first])
        root = (weight[:, first] * (weight.shape[1] / D.shape[1])).sqrt()
        A = (slopes[:, first] @ D * root[..., None, None]).flatten(1, 2)
        held = D[:, :LANDMARKS].flatten(1, 2) / self.camera.size
        matrix = A.mT @ A + HELD * held.mT @ held + torch.diag(self.damping)
        step = _solve(matrix, target[..., None])[..., 0]
        return step[:, :modes], step[:, modes : modes + 3] * TURN, step[:, modes + 3 :] * MOVE

    def _projected(
        self, x: Float[Tensor, "batch points 3"], places: Float[Tensor, "batch points 2"]
    ) -> Float[Tensor, "batch points 2 3"]:
        """∂u/∂x, pixels per mm in camera space."""
        J = x.new_zeros(*x.shape[:2], 2, 3)
        J[..., 0, 0] = J[..., 1, 1] = self.camera.focal / x[..., 2]
        J[..., 2] = -(places - places.new_tensor(self.camera.principal)) / x[..., 2:]
        return J

    def _turns(self, code: Code) -> Float[Tensor, "batch axes 3 3"]:
        """∂R/∂w for each component of the rotation vector, in its unit, by central differences."""
        ways = torch.cat((torch.eye(3), -torch.eye(3))).to(code.rotation) * _TURNED
        T = rotation_matrix(code.rotation[:, None] + ways)
        R, _ = extrinsics(T, code.translation[:, None].expand(-1, len(ways), -1), self.camera)
        return (R[:, :3] - R[:, 3:]) / (2 * _TURNED) * TURN

    def _derivative(
        self, J: Tensor, R: Tensor, turns: Tensor, V: Tensor
    ) -> Float[Tensor, "batch points 2 modes"]:
        """∂u/∂(α, δ, pose) of the first points, pixels; the pose in its units."""
        modes = torch.einsum("bpij,pjk->bpik", J @ R[:, None], self.own_basis[: V.shape[1]])
        around = torch.einsum("bkij,bpj->bpik", turns, V)
        return torch.cat((modes, J @ around, J * MOVE), -1)


def _light(n: Tensor, reflectance: Tensor, missing: Tensor, weight: Tensor) -> Float[Tensor, "batch 9 3"]:
    """The step of γ, everything else held: nine unknowns for each channel."""
    H = harmonics(n)
    pairs = (H[..., :, None] * H[..., None, :]).flatten(2)
    by_channel = (pairs.mT @ (weight[..., None] * reflectance**2)).mT.unflatten(-1, (COUNT, COUNT))
    matrix = by_channel + LIGHT * torch.eye(COUNT).to(H)
    target = (H.mT @ (weight[..., None] * reflectance * -missing)).mT
    return _solve(matrix, target[..., None])[..., 0].mT


def _solve(matrix: Float[Tensor, "*batch n n"], target: Float[Tensor, "*batch n k"]) -> Tensor:
    """The solution for symmetric, positive definite matrices, which damped ones are."""
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(target, factor)


def readings_of(
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 9 half_height half_width"]:
    """The picture at half its size, and its slopes across and down, per pixel of the crop."""
    half = F.avg_pool2d(image, SHRINK)
    wide = F.pad(half, (1, 1, 1, 1), mode="replicate")
    across = wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]
    down = wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]
    return torch.cat((half, across / (2 * SHRINK), down / (2 * SHRINK)), 1)

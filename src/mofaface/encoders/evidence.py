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
# seen, of the squares of α and δ, of the pose and of the light. A step minimises half of squares: the weights of the
# default recipe's priors, twice.
PHOTO, HELD, ALPHA, DELTA, POSE, LIGHT = 1.92, 10.0, 2e-4, 1.6e-4, 1e-5, 0.24
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
    """The picture without the light, minus the reflectance, at most half; zero where a point is not seen."""
    step: Code
    """The change of each part of the code that would explain it, the other parts held."""


def choose_points(model: FaceModel, most: int) -> Int[Tensor, "points 4"]:
    """At most so many vertices spread over the compared part of the face, the 68 landmarks first, each with three others.

    Each next vertex is the one farthest from all before. The three others are neighbours that follow each other
    counter-clockwise, seen from outside; of a corner that has only two, the vertex itself is the third. Raises ValueError
    for fewer points than landmarks, and for a landmark that no triangle has.
    """
    coarse, kept = model.coarse(), model.arrays.coarse_vertices
    x, chosen = coarse.mean_shape, coarse.landmarks_68.tolist()
    in_mesh = torch.zeros_like(coarse.frontal).index_fill(0, coarse.triangles.flatten(), True)
    if most < len(chosen):
        raise ValueError(f"feedback needs {len(chosen)} points or more, got {most}")
    if bare := coarse.landmarks_68[~in_mesh[chosen]].tolist():
        raise ValueError(
            f"feedback needs triangles at every landmark; vertices {bare} of face model '{model.name}' have none"
        )
    candidates = coarse.frontal & in_mesh
    nearest = torch.where(candidates, torch.cdist(x, x[chosen]).amin(1), -1.0)
    while len(chosen) < min(most, max(int(candidates.sum()), len(chosen))):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (x - x[chosen[-1]]).norm(dim=-1))
    rings = _rings(coarse.triangles, chosen)
    rows = torch.tensor([[v, *(rings[v][k * len(rings[v]) // 3] for k in range(3))] for v in chosen])
    return rows if coarse is model or kept is None else torch.from_numpy(kept.astype(np.int64))[rows]


def _rings(triangles: Int[Tensor, "faces 3"], vertices: list[int]) -> dict[int, list[int]]:
    """The neighbours of some vertices in the order around each; the vertex itself is added to fewer than three."""
    edges: dict[int, dict[int, int]] = {v: {} for v in vertices}
    for corners in triangles.tolist():
        for k in range(3):
            if corners[k] in edges:
                edges[corners[k]][corners[(k + 1) % 3]] = corners[(k + 2) % 3]
    rings = {}
    for v, following in edges.items():
        # At a border of the mesh the ring begins where no edge leads to.
        starts = [u for u in following if u not in following.values()]
        ring = [starts[0] if starts else next(iter(following))]
        # Where more than two triangles share an edge, the way around may come back to its middle.
        while (after := following.get(ring[-1])) is not None and after not in ring:
            ring.append(after)
        rings[v] = ring if len(ring) > 2 else [*ring, v]
    return rings


class _Shared:
    """A face model that is no part of the network: it is neither moved nor copied with it."""

    def __init__(self, model: FaceModel):
        self.model = model

    def __deepcopy__(self, memo: dict[int, object]) -> "_Shared":
        return self


class FacePoints(nn.Module):
    """Some points of a face model, what a code says of them, and what a picture says of the code.

    Only the choice of points is saved; everything else is read from the face model again.
    """

    points: Tensor
    corners: Tensor
    mean_shape: Tensor
    geometry_basis: Tensor
    own_basis: Tensor
    mean_reflectance: Tensor
    reflectance_basis: Tensor
    reads_beta: Tensor
    compared: Tensor
    damping: Tensor

    def __init__(self, decoder: Decoder, most: int):
        """Raises ValueError for fewer points than landmarks."""
        super().__init__()
        self.camera: Camera = decoder.camera
        self._shared = _Shared(decoder.model)
        self.register_buffer("points", choose_points(decoder.model, most))
        self._read_model()
        self.register_load_state_dict_post_hook(lambda module, _: module._read_model())

    def _read_model(self) -> None:
        """Read the rows of the chosen points."""
        model, device = self._shared.model, self.points.device
        points = self.points.to(model.mean_shape.device)
        if int(points.min()) < 0 or int(points.max()) >= model.vertices:
            raise ValueError(
                f"feedback compares vertex {int(points.max())}, and face model '{model.name}' has {model.vertices}; "
                "give the face model that the weights were trained with"
            )
        # Every vertex once, and where each point and its neighbours are among them.
        rows, corners = torch.unique(points, return_inverse=True)
        own = points[:, 0]
        basis = torch.cat((model.shape_basis, model.expression_basis), -1)
        colours = model.reflectance_basis[own].flatten(0, 1)
        ridge = RIDGE * (colours**2).sum() / colours.shape[1]
        damped = colours.mT @ colours + ridge * torch.eye(colours.shape[1]).to(colours)
        shapes, expressions = model.shape_basis.shape[-1], model.expression_basis.shape[-1]
        sizes = ((ALPHA, shapes), (DELTA, expressions), (POSE, 6))
        for name, tensor in {
            "corners": corners,
            "mean_shape": model.mean_shape[rows].flatten(),
            "geometry_basis": basis[rows].flatten(0, 1).mT,
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
        V = torch.addmm(self.mean_shape, torch.cat((code.alpha, code.delta), -1), self.geometry_basis)
        V = V.unflatten(-1, (-1, 3))
        R, t = extrinsics(rotation_matrix(code.rotation), code.translation, self.camera)
        # Each point and its three neighbours.
        x, a, b, c = (V @ R.mT + t[:, None]).index_select(1, self.corners.mT.flatten()).chunk(4, 1)
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
    ) -> tuple[Float[Tensor, "batch modes"], Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
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
        z = x[..., 2:].clamp(min=self.camera.nearest)
        J[..., 0, 0] = J[..., 1, 1] = self.camera.focal / z[..., 0]
        J[..., 2] = -(places - places.new_tensor(self.camera.principal)) / z
        return J

    def _turns(self, code: Code) -> Float[Tensor, "batch axes 3 3"]:
        """∂R/∂w for each component of the rotation vector, in its unit, by central differences."""
        ways = torch.cat((torch.eye(3), -torch.eye(3))).to(code.rotation) * _TURNED
        T = rotation_matrix(code.rotation[:, None] + ways)
        R, _ = extrinsics(T, code.translation[:, None].expand(-1, len(ways), -1), self.camera)
        return (R[:, :3] - R[:, 3:]) / (2 * _TURNED) * TURN

    def _derivative(
        self,
        J: Float[Tensor, "batch points 2 3"],
        R: Float[Tensor, "batch 3 3"],
        turns: Float[Tensor, "batch axes 3 3"],
        V: Float[Tensor, "batch points 3"],
    ) -> Float[Tensor, "batch points 2 modes"]:
        """∂u/∂(α, δ, pose) of the first points, pixels; the pose in its units."""
        modes = torch.einsum("bpij,pjk->bpik", J @ R[:, None], self.own_basis[: V.shape[1]])
        around = torch.einsum("bkij,bpj->bpik", turns, V)
        return torch.cat((modes, J @ around, J * MOVE), -1)


def _light(
    n: Float[Tensor, "batch points 3"],
    reflectance: Float[Tensor, "batch points channels"],
    missing: Float[Tensor, "batch points channels"],
    weight: Float[Tensor, "batch points"],
) -> Float[Tensor, "batch 9 channels"]:
    """The step of γ, everything else held: nine unknowns for each channel."""
    H = harmonics(n)
    pairs = (H[..., :, None] * H[..., None, :]).flatten(2)
    by_channel = (pairs.mT @ (weight[..., None] * reflectance**2)).mT.unflatten(-1, (COUNT, COUNT))
    matrix = by_channel + LIGHT * torch.eye(COUNT).to(H)
    target = (H.mT @ (weight[..., None] * reflectance * -missing)).mT
    return _solve(matrix, target[..., None])[..., 0].mT


def _solve(
    matrix: Float[Tensor, "*batch n n"], target: Float[Tensor, "*batch n k"]
) -> Float[Tensor, "*batch n k"]:
    """The solution for positive definite matrices, which damped ones are; zero where rounding made them others."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(target, factor)
    return torch.where((failed != 0)[..., None, None], torch.zeros_like(solution), solution)


def readings_of(
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 9 half_height half_width"]:
    """The picture at half its size, and its slopes across and down, per pixel of the crop."""
    half = F.avg_pool2d(image, SHRINK)
    wide = F.pad(half, (1, 1, 1, 1), mode="replicate")
    across = wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]
    down = wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]
    return torch.cat((half, across / (2 * SHRINK), down / (2 * SHRINK)), 1)

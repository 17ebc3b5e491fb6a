"""Deformation transfer between triangle meshes (Sumner and Popović 2004): expressions carried to another topology.

A triangle and its fourth vertex v₁ + n/√|n| give the affine map S = Ṽ V⁻¹ from rest to deformed (their equation 4).
The target's vertices minimise Σ_t A_t |S_t − T_t|², T_t the target triangle's own map (their equation 8). Each fourth
vertex of the target stands in one triangle only, so its best place is found by hand: it meets S_t along the normal
exactly and leaves Σ_t A_t |(S_t − T_t) P_t|², P_t the projection onto the triangle's plane. What remains is a system in
the real vertices only, three times smaller, with the same solution; the triangles' areas A_t as weights are our
departure, so that the answer does not depend on how densely a region is meshed.

Pairs of triangles: the source is sampled at one point per target vertex (at rest and deformed), so each target triangle
has its own source triangle. Target triangles without one take gradients from their neighbours that fade to rest.
"""

from dataclasses import dataclass

import numpy as np
import qdldl
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csc_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class TransferConfig:
    """Choices where the source says nothing."""

    fade_mm: float = 20.0
    """Distance over which gradients fade to rest beyond the source's surface."""
    uncovered_weight: float = 0.1
    """Weight of triangles without a source triangle, whose gradients are guesses."""
    place_mm: float = 40.0
    """Features wider than this follow the source's displacements, narrower ones its gradients; 0 for gradients alone."""
    worst_stretch: float = 12.0
    """A pair of triangles whose shapes differ by more than this factor in any direction is none."""


class Transfer:
    """A target mesh ready for any number of expressions: its normal equations are factored once (LDLᵀ)."""

    def __init__(
        self,
        positions: Float[np.ndarray, "vertices 3"],
        triangles: Int[np.ndarray, "faces 3"],
        source_rest: Float[np.ndarray, "vertices 3"],
        found: Bool[np.ndarray, "vertices"] | None = None,
        rotation: Float[np.ndarray, "3 3"] | None = None,
        scale: float = 1.0,
        fixed: Int[np.ndarray, "fixed"] | None = None,
        config: TransferConfig | None = None,
    ):
        """`source_rest` is the source's surface at each target vertex; the target is scale · rotation @ source + shift."""
        self.positions, self.triangles = positions.astype(np.float64), triangles
        self.config, self.scale = config or TransferConfig(), scale
        self.rotation = np.eye(3) if rotation is None else rotation
        self.source_rest = source_rest.astype(np.float64)
        self.found = np.ones(len(positions), bool) if found is None else found
        self.fixed = np.zeros(0, np.int64) if fixed is None else fixed
        self.covered = self._covered()
        self._fill = Fill(self.positions, triangles, self.covered, self.config.fade_mm)
        self._gradient = gradient_operator(self.positions, triangles)
        self._weights = triangle_areas(self.positions, triangles) * np.where(
            self.covered, 1.0, self.config.uncovered_weight
        )
        self._factor()

    def _covered(self) -> Bool[np.ndarray, "faces"]:
        """True for target triangles with a source triangle of about their own shape."""
        both = self.found[self.triangles].all(axis=1)
        frames = triangle_frames(self.scale * self.source_rest @ self.rotation.T, self.triangles[both])
        own = triangle_frames(self.positions, self.triangles[both])
        usable = np.abs(np.linalg.det(frames)) > 1e-12
        stretch = frames[usable] @ np.linalg.inv(own[usable])
        values = np.linalg.svd(stretch, compute_uv=False)
        limit = self.config.worst_stretch
        usable[usable] = (values[:, 0] < limit) & (values[:, 2] > 1 / limit)
        both[both] = usable
        return both

    def _factor(self) -> None:
        """The Cholesky factor of the free vertices' normal equations."""
        count, mass = len(self.positions), vertex_areas(self.positions, self.triangles)
        self._parts = mesh_parts(count, self.triangles)
        placed = self.found & (self.config.place_mm > 0)
        self._place = np.where(placed, mass / max(self.config.place_mm, 1e-9) ** 2, 0.0)
        self._held = np.union1d(self.fixed, self._pins(placed)).astype(np.int64)
        self._free = np.setdiff1d(np.arange(count), self._held)
        weighted = self._gradient.T @ diags_array(np.repeat(self._weights, 3))
        self._right = csr_array(weighted)
        normal = csr_array(weighted @ self._gradient + diags_array(self._place))
        self._solver = qdldl.Solver(_checked(csc_array(normal[self._free][:, self._free])))

    def _pins(self, placed: np.ndarray) -> np.ndarray:
        """One vertex of each component whose shift nothing else determines."""
        determined = placed.copy()
        determined[self.fixed] = True
        held = np.zeros(self._parts.max() + 1, bool)
        held[self._parts[determined]] = True
        first = np.unique(self._parts, return_index=True)[1]
        return first[~held]

    def displacements(
        self, source_deformed: Float[np.ndarray, "vertices 3"]
    ) -> Float[np.ndarray, "vertices 3"]:
        """How the target moves (its own units) when the source's points move to `source_deformed`."""
        moved = self.scale * (source_deformed - self.source_rest) @ self.rotation.T
        gradients = self._fill(self._source_gradients(source_deformed))
        # Solved for displacements: T − I is the gradient of the displacement, and rest is the zero solution.
        flat = (gradients - np.eye(3)).transpose(0, 2, 1).reshape(-1, 3)
        right = self._right @ flat + self._place[:, None] * np.where(self.found[:, None], moved, 0.0)
        solved = np.zeros_like(self.positions)
        rhs = right[self._free]
        solved[self._free] = np.stack([self._solver.solve(np.ascontiguousarray(c)) for c in rhs.T], axis=1)
        return solved + self._shift(solved, moved)

    def _source_gradients(self, deformed: np.ndarray) -> Float[np.ndarray, "faces 3 3"]:
        """Maps S_t in the target's frame; rest where there is no source triangle."""
        gradients = np.broadcast_to(np.eye(3), (len(self.triangles), 3, 3)).copy()
        own = deformation_gradients(self.source_rest, deformed, self.triangles[self.covered])
        gradients[self.covered] = self.rotation @ own @ self.rotation.T
        return gradients

    def _shift(self, solved: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Gradients say nothing on a component's shift: where no vertex does, it follows the source's mean."""
        shift = np.zeros_like(solved)
        for part in np.unique(self._parts[np.setdiff1d(self._held, self.fixed)]):
            rows = self._parts == part
            seen = rows & self.found
            if seen.any():
                shift[rows] = (moved[seen] - solved[seen]).mean(axis=0)
        return shift


class Fill:
    """Gradients of triangles without a source: the smoothest continuation, fading to rest with distance."""

    def __init__(self, positions: np.ndarray, triangles: np.ndarray, covered: np.ndarray, fade_mm: float):
        self.unknown = np.flatnonzero(~covered)
        self.known = np.flatnonzero(covered)
        if len(self.unknown) == 0:
            return
        between = dual_weights(positions, triangles)
        degree = np.asarray(between.sum(axis=1)).ravel()
        stay = triangle_areas(positions, triangles) / fade_mm**2
        matrix = csr_array(diags_array(degree + stay) - between)
        self._coupling = matrix[self.unknown][:, self.known]
        self._solver = qdldl.Solver(_checked(csc_array(matrix[self.unknown][:, self.unknown])))

    def __call__(self, gradients: Float[np.ndarray, "faces 3 3"]) -> Float[np.ndarray, "faces 3 3"]:
        """The gradients with the unknown ones filled in."""
        if len(self.unknown) == 0 or len(self.known) == 0:
            return gradients
        offset = (gradients - np.eye(3)).reshape(-1, 9)
        right = -(self._coupling @ offset[self.known])
        offset[self.unknown] = np.stack(
            [self._solver.solve(np.ascontiguousarray(c)) for c in right.T], axis=1
        )
        return offset.reshape(-1, 3, 3) + np.eye(3)


def triangle_frames(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "faces 3 3"]:
    """V = [v₂ − v₁, v₃ − v₁, v₄ − v₁] as columns, v₄ = v₁ + n/√|n| (equations 1 and 3 of Sumner and Popović)."""
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    length = np.sqrt(np.linalg.norm(normal, axis=1, keepdims=True))
    return np.stack([b - a, c - a, normal / np.maximum(length, 1e-12)], axis=-1)


def deformation_gradients(
    rest: Float[np.ndarray, "vertices 3"],
    deformed: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
) -> Float[np.ndarray, "faces 3 3"]:
    """S = Ṽ V⁻¹ of each triangle (equation 4 of Sumner and Popović)."""
    before, after = triangle_frames(rest, triangles), triangle_frames(deformed, triangles)
    return np.linalg.solve(before.transpose(0, 2, 1), after.transpose(0, 2, 1)).transpose(0, 2, 1)


def gradient_operator(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> csr_array:
    """(3 faces, vertices): the gradient in the triangle's plane of a function given at the vertices, 1/unit."""
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    twice = (normal**2).sum(axis=1, keepdims=True).clip(1e-24)
    # The hat function of a corner rises at right angles to the opposite edge, with slope 1 / height.
    slopes = np.stack([np.cross(normal, edge) / twice for edge in (c - b, a - c, b - a)], axis=1)
    rows = np.broadcast_to(3 * np.arange(len(triangles))[:, None, None] + np.arange(3), slopes.shape)
    columns = np.broadcast_to(triangles[:, :, None], slopes.shape)
    shape = (3 * len(triangles), len(positions))
    return coo_array((slopes.ravel(), (rows.ravel(), columns.ravel())), shape=shape).tocsr()


def triangle_areas(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "faces"]:
    """Area of each triangle, squared units of the positions."""
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def vertex_areas(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices"]:
    """A third of the area of the triangles at each vertex."""
    areas = np.repeat(triangle_areas(positions, triangles) / 3, 3)
    return np.bincount(triangles.ravel(), areas, minlength=len(positions))


def mesh_parts(vertices: int, triangles: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "vertices"]:
    """Number of the connected component of each vertex."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(vertices, vertices))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def dual_weights(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> csr_array:
    """Symmetric weights between triangles that share an edge: its length over the distance of their centres."""
    corner = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, edge = np.unique(np.sort(corner, axis=1), axis=0, return_inverse=True)
    owner = np.tile(np.arange(len(triangles)), 3)
    order = np.argsort(edge.ravel(), kind="stable")
    pair = np.flatnonzero(np.diff(edge.ravel()[order]) == 0)
    left, right = owner[order[pair]], owner[order[pair + 1]]
    ends = positions[corner[order[pair]]]
    centre = positions[triangles].mean(axis=1)
    apart = np.linalg.norm(centre[left] - centre[right], axis=1).clip(1e-9)
    weight = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) / apart
    half = coo_array((weight, (left, right)), shape=(len(triangles),) * 2)
    return csr_array(half + half.T)


def _checked(matrix: csc_array) -> csc_array:
    """The matrix if it can be factored; free vertices without a triangle make an empty row."""
    if (matrix.diagonal() <= 0).any():
        raise ValueError(
            "every free vertex of a transfer's target must belong to a triangle with an area; "
            f"{int((matrix.diagonal() <= 0).sum())} do not: remove them or fix them"
        )
    return matrix

"""A face model's expression basis from blendshapes on other topologies (the paper's section 3): transfer, then PCA.

Each set is carried to the model's mesh by deformation transfer; the modes are those of the second moment about the
neutral face, so δ = 0 stays the neutral face and every named shape is a combination of modes without an offset.
A model whose geometry lives on a cage gets the cage displacements that subdivide to the nearest surface in the
least-squares sense, (SᵀS) c = Sᵀ d; SᵀS is positive definite and factored once.
"""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import qdldl
from jaxtyping import Float, Int
from scipy.sparse import csc_array, csr_array

from mofaface.face_model import FaceModelArrays
from mofaface.face_models.blendshape_sets import BlendshapeError, BlendshapeSet, Sampling
from mofaface.face_models.deformation_transfer import Transfer, TransferConfig, mesh_parts
from mofaface.face_models.open_model.modes import GEOMETRY_MIRROR, Modes, describe, principal_modes, spread
from mofaface.face_models.registration import RegistrationConfig, register
from mofaface.face_models.surface import Surface

LOG = logging.getLogger(__name__)
WRONG_MM = 20.0  # faces of two people, aligned, are some 5 mm apart


@dataclass(frozen=True)
class ExpressionBuildConfig:
    """How sets become a basis."""

    modes: int = 64
    """How many modes at most."""
    own: bool = False
    """Let the base model's own named units (or its modes) take part."""
    spread_mm: float | None = 2.9
    """Root mean square motion of a vertex of a random expression; None leaves each shape at full strength."""
    transfer: TransferConfig = field(default_factory=TransferConfig)


@dataclass(frozen=True)
class Carried:
    """Named displacements on a model's mesh (mm)."""

    names: tuple[str, ...]
    fields: Float[np.ndarray, "shapes vertices 3"]


def build_expression(
    base: FaceModelArrays, sets: list[BlendshapeSet], config: ExpressionBuildConfig | None = None
) -> FaceModelArrays:
    """The base model with an expression basis (mm) made of the sets; its named units are the sets' shapes."""
    config = config or ExpressionBuildConfig()
    if not sets:
        raise BlendshapeError("an expression basis is made of at least one set of blendshapes, got none")
    full = base.subdivided()
    carried = [carry_set(full, s, config.transfer) for s in sets]
    names, fields = joined([*([own_shapes(base)] if config.own else []), *carried], [s.name for s in sets])
    project = CageProjection(base)
    cage = project(fields)
    modes = expression_modes(base, project.surface(cage), config)
    LOG.info(describe("expression", modes))
    basis = np.moveaxis(project(np.moveaxis(modes.basis, -1, 0)), 0, -1)
    units = np.einsum("kvc,vcm->km", project.surface(cage), modes.basis) / modes.sigma**2
    note = f"Expression: {len(names)} shapes of {', '.join(s.name for s in sets)} by deformation transfer."
    return replace(
        base,
        version=f"{base.version}-expression",
        expression_basis=basis.astype(np.float32),
        unit_names=names,
        units_expression=units.astype(np.float32),
        notes=f"{base.notes} {note} {kept(modes)}".strip(),
    )


def kept(modes: Modes) -> str:
    """A sentence: how much of the shapes' variance the modes keep."""
    return f"{len(modes.sigma)} modes keep {modes.cumulative[-1]:.2%} of the variance."


def expression_modes(
    base: FaceModelArrays, fields: Float[np.ndarray, "shapes vertices 3"], config: ExpressionBuildConfig
) -> Modes:
    """Modes on the full mesh; for a mirror-symmetric model each is even or odd."""
    if base.mirror is None:
        mirror, sign = np.arange(fields.shape[1]), (1.0, 1.0, 1.0)
    else:
        mirror, sign = base.mirror.astype(np.int64), GEOMETRY_MIRROR
    modes = principal_modes(fields, None, mirror, sign, config.modes)
    if config.spread_mm is None:
        return modes
    return modes.scaled(config.spread_mm / spread(modes, fields.shape[1]))


def joined(parts: list[Carried], labels: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """All shapes in order; a name that came before gets its set's name in front."""
    names: list[str] = []
    labels = ["own"] * (len(parts) - len(labels)) + labels
    for label, part in zip(labels, parts, strict=True):
        for name in part.names:
            names.append(f"{label}/{name}" if name in names else name)
    return tuple(names), np.concatenate([part.fields for part in parts])


def own_shapes(base: FaceModelArrays) -> Carried:
    """The base's named units as displacements of its vertices, or its modes where it names none."""
    full = base.subdivided()
    flat = full.expression_basis.reshape(-1, full.expression_basis.shape[-1]).astype(np.float64)
    if base.units_expression is None or not base.unit_names:
        names = tuple(f"mode{i}" for i in range(flat.shape[1]))
        return Carried(names, flat.T.reshape(flat.shape[1], -1, 3))
    return Carried(base.unit_names, (base.units_expression @ flat.T).reshape(len(base.unit_names), -1, 3))


def carry_set(full: FaceModelArrays, blendshapes: BlendshapeSet, config: TransferConfig) -> Carried:
    """A set's shapes as displacements (mm) of the vertices of a model without a subdivision operator."""
    return transferred(full, blendshapes, correspond(full, blendshapes), config)


def transferred(
    full: FaceModelArrays,
    blendshapes: BlendshapeSet,
    match: tuple[Sampling, float, Float[np.ndarray, "3 3"]],
    config: TransferConfig,
) -> Carried:
    """As `carry_set`, for a known sampling, scale and rotation."""
    sampling, scale, rotation = match
    transfer = Transfer(
        full.mean_shape.astype(np.float64),
        full.triangles.astype(np.int64),
        sampling(blendshapes.neutral),
        sampling.found,
        rotation,
        scale,
        config=config,
    )
    offsets = blendshapes.displacements
    fields = np.stack([transfer.displacements(sampling(blendshapes.neutral + d)) for d in offsets])
    LOG.info(
        f"{blendshapes.name}: {len(fields)} shapes; {transfer.covered.mean():.1%} of triangles have a source"
    )
    return Carried(
        blendshapes.names, move_small_parts_rigidly(fields, full.mean_shape, full.triangles.astype(np.int64))
    )


def correspond(
    full: FaceModelArrays, blendshapes: BlendshapeSet
) -> tuple[Sampling, float, Float[np.ndarray, "3 3"]]:
    """The sampling of the set at the model's vertices, and the scale and rotation from the set to the model."""
    vertices = len(full.mean_shape)
    if _same_topology(full, blendshapes):
        rows = np.arange(vertices)
        sampling = Sampling(
            np.repeat(rows[:, None], 3, axis=1),
            np.tile([1.0, 0.0, 0.0], (vertices, 1)),
            np.ones(vertices, bool),
        )
    elif blendshapes.sampling is not None:
        sampling = blendshapes.sampling
        if len(sampling.found) != vertices:
            raise BlendshapeError(
                f"a correspondence has one row for each of the model's {vertices} vertices; that of "
                f"'{blendshapes.name}' has {len(sampling.found)}: make it for this model"
            )
    elif blendshapes.landmarks_68 is not None:
        return registered(full, blendshapes)
    else:
        raise BlendshapeError(
            f"a set on another topology needs 68 landmarks or a correspondence; '{blendshapes.name}' has neither: "
            "give --landmarks or --correspondences, or put landmarks_68.txt into its folder"
        )
    seen = sampling.found
    theirs, ours = sampling(blendshapes.neutral)[seen], full.mean_shape[seen].astype(np.float64)
    scale, rotation = similarity(theirs, ours)
    apart = scale * (theirs - theirs.mean(axis=0)) @ rotation.T - (ours - ours.mean(axis=0))
    if np.median(np.linalg.norm(apart, axis=1)) > WRONG_MM:
        raise BlendshapeError(
            f"a correspondence lays the model's vertices where they lie on the set's face; that of '{blendshapes.name}' "
            "mixes them up: make it for this very file (rows of its triangles, in its order)"
        )
    return sampling, scale, rotation


def _same_topology(full: FaceModelArrays, blendshapes: BlendshapeSet) -> bool:
    return len(full.mean_shape) == len(blendshapes.neutral) and np.array_equal(
        full.triangles, blendshapes.triangles
    )


def registered(
    full: FaceModelArrays, blendshapes: BlendshapeSet, config: RegistrationConfig | None = None
) -> tuple[Sampling, float, Float[np.ndarray, "3 3"]]:
    """As `correspond`, by registration of the model's mean face onto the set's neutral face."""
    triangles, marks = blendshapes.triangles, blendshapes.landmarks_68
    if marks is None:
        raise BlendshapeError(
            f"a registration needs 68 landmarks, and set '{blendshapes.name}' has none: give them"
        )
    result = register(
        Surface(full.mean_shape.astype(np.float64), full.triangles.astype(np.int64)),
        Surface(blendshapes.neutral, triangles),
        full.landmarks_68.astype(np.int64),
        marks,
        config,
    )
    match = result.correspondence
    corners = triangles[np.maximum(match.triangle, 0)]
    return Sampling(corners, match.barycentric, match.found), 1 / float(result.scale), result.rotation.T


def similarity(
    source: Float[np.ndarray, "points 3"], target: Float[np.ndarray, "points 3"]
) -> tuple[float, Float[np.ndarray, "3 3"]]:
    """Scale and rotation that carry the source's points nearest to the target's (Umeyama 1991)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, values, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return float((values * sign).sum() / (a**2).sum()), (u * sign) @ vt


def move_small_parts_rigidly(
    fields: Float[np.ndarray, "shapes vertices 3"],
    mean: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
) -> Float[np.ndarray, "shapes vertices 3"]:
    """Components besides the largest (eyeballs) turn about their centre and shift, linearly, without changing shape."""
    parts = mesh_parts(len(mean), triangles)
    moved = fields.copy()
    for part in np.flatnonzero(np.bincount(parts) < np.bincount(parts).max()):
        rows = parts == part
        centred = mean[rows].astype(np.float64) - mean[rows].mean(axis=0)
        shifts = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
        turns = [np.cross(axis, centred) for axis in np.eye(3)]
        generators = np.stack([g.ravel() for g in shifts + turns], axis=1)
        solution = np.linalg.lstsq(generators, fields[:, rows].reshape(len(fields), -1).T, rcond=None)[0]
        moved[:, rows] = (generators @ solution).T.reshape(len(fields), -1, 3)
    return moved


class CageProjection:
    """Displacements of a model's vertices as displacements of its cage, by least squares."""

    def __init__(self, base: FaceModelArrays):
        self._operator: csr_array | None = None
        if base.subdivision is not None:
            s = base.subdivision
            shape = (len(s.indptr) - 1, s.columns)
            self._operator = csr_array((s.values.astype(np.float64), s.indices, s.indptr), shape=shape)
            normal = csc_array(self._operator.T @ self._operator)
            # Cage vertices that no vertex of the cropped face depends on would leave empty rows.
            loose = np.where(normal.diagonal() > 1e-9, 0.0, 1.0) + 1e-9
            normal.setdiag(normal.diagonal() + loose)
            self._solver = qdldl.Solver(normal)

    def __call__(self, fields: Float[np.ndarray, "shapes vertices 3"]) -> Float[np.ndarray, "shapes cage 3"]:
        """The cage's displacements whose subdivision is nearest to the fields."""
        if self._operator is None:
            return fields
        right = self._operator.T @ np.moveaxis(fields, 1, 0).reshape(fields.shape[1], -1)
        solved = np.stack([self._solver.solve(np.ascontiguousarray(column)) for column in right.T], axis=1)
        return np.moveaxis(solved.reshape(len(solved), len(fields), 3), 1, 0)

    def surface(self, cage: Float[np.ndarray, "shapes cage 3"]) -> Float[np.ndarray, "shapes vertices 3"]:
        """The vertices' displacements for those of the cage."""
        if self._operator is None:
            return cage
        columns = np.moveaxis(cage, 1, 0).reshape(cage.shape[1], -1)
        return np.moveaxis((self._operator @ columns).reshape(-1, len(cage), 3), 1, 0)

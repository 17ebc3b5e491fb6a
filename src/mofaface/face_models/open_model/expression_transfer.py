"""python -m mofaface.face_models.open_model.expression_transfer SET [--model MODEL] [--sheet PNG] [--correspondence NPZ]

Deformation transfer measured on a real pair: a set's shapes carried to a face model, beside the model's own unit of the
same name; and carried back to the set's mesh, beside the set's own shape. Figures are on the frontal
face's skin, mm.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mofaface.face_model import FaceModel, FaceModelArrays
from mofaface.face_models import find_face_model
from mofaface.face_models.blendshape_sets import BlendshapeSet, Sampling, read_set
from mofaface.face_models.build_expression import Carried, correspond, own_shapes, registered, transferred
from mofaface.face_models.container import read_arrays
from mofaface.face_models.deformation_transfer import Transfer, TransferConfig, vertex_areas
from mofaface.face_models.registration import RegistrationConfig
from mofaface.face_models.surface import Surface, closest_points, vertex_normals

FAR_MM = 3.0  # vertices of the set farther than this from the model's surface are not covered


@dataclass(frozen=True)
class UnitFigures:
    """One shape: how far it moves the face, and how the transferred one compares. Lengths root mean square, mm."""

    name: str
    set_mm: float
    carried_mm: float
    own_mm: float  # these three are nan where the model has no unit of the name
    cosine: float
    apart_mm: float
    round_trip_mm: float
    round_trip_of_mm: float


def measure_pair(
    full: FaceModelArrays, blendshapes: BlendshapeSet, match: tuple[Sampling, float, np.ndarray]
) -> tuple[list[UnitFigures], Carried]:
    """Figures of every shape of the set, and the shapes on the model."""
    config = TransferConfig()
    carried, own = transferred(full, blendshapes, match, config), own_shapes(full)
    back, covered = return_journey(full, blendshapes, match, config)
    skin = frontal_skin(full) & match[0].found
    weights = vertex_areas(full.mean_shape.astype(np.float64), full.triangles.astype(np.int64))[skin]
    set_weights = vertex_areas(blendshapes.neutral, blendshapes.triangles)[covered]
    figures = []
    for k, name in enumerate(carried.names):
        x, original = carried.fields[k][skin], blendshapes.displacements[k]
        y = own.fields[own.names.index(name)][skin] if name in own.names else None
        returned = back.displacements(full.mean_shape + carried.fields[k])
        figures.append(
            UnitFigures(
                name,
                rms(match[1] * match[0](original)[skin], weights),
                rms(x, weights),
                np.nan if y is None else rms(y, weights),
                np.nan if y is None else cosine(x, y, weights),
                np.nan if y is None else rms(x - y, weights),
                rms((returned - original)[covered], set_weights),
                rms(original[covered], set_weights),
            )
        )
    return figures, carried


def coarse_pair(
    arrays: FaceModelArrays, blendshapes: BlendshapeSet, names: tuple[str, ...]
) -> tuple[FaceModelArrays, BlendshapeSet, tuple[Sampling, float, np.ndarray]]:
    """A quick pair for a few named shapes: the model's coarse mesh, registered in few steps."""
    coarse = FaceModel(arrays).coarse().arrays
    rows = [blendshapes.names.index(name) for name in names]
    some = replace(blendshapes, displacements=blendshapes.displacements[rows], names=names)
    steps = RegistrationConfig(stiffness=(12.0,), rounds=1)
    return coarse, some, registered(coarse, some, steps)


def return_journey(
    full: FaceModelArrays,
    blendshapes: BlendshapeSet,
    match: tuple[Sampling, float, np.ndarray],
    config: TransferConfig,
) -> tuple[Transfer, Bool[np.ndarray, "source"]]:
    """A transfer from the model to the set's mesh, fed with the model's vertices, and which set vertices it covers."""
    sampling, scale, rotation = match
    laid = Surface(sampling(blendshapes.neutral), full.triangles[sampling.found[full.triangles].all(axis=1)])
    near, distance = closest_points(blendshapes.neutral, laid)
    covered = near.found & (distance < FAR_MM / scale) & _faces_alike(near, laid, blendshapes)
    lift = Sampling(laid.triangles[near.triangle].astype(np.int64), near.barycentric, covered)
    transfer = SampledTransfer(
        blendshapes.neutral,
        blendshapes.triangles,
        lift(full.mean_shape.astype(np.float64)),
        covered,
        rotation.T,
        1 / scale,
        config=config,
    )
    transfer.lift = lift
    return transfer, covered & (np.linalg.norm(blendshapes.neutral - lift(laid.positions), axis=1) < FAR_MM)


class SampledTransfer(Transfer):
    """A transfer that takes the source's vertices and samples them itself."""

    lift: Sampling

    def displacements(
        self, source_deformed: Float[np.ndarray, "source 3"]
    ) -> Float[np.ndarray, "vertices 3"]:
        """As Transfer's, for positions of the source's own vertices."""
        return super().displacements(self.lift(source_deformed))


def _faces_alike(near, laid: Surface, blendshapes: BlendshapeSet) -> Bool[np.ndarray, "source"]:
    normals = near.carry(vertex_normals(laid), laid.triangles)
    return (normals * vertex_normals(Surface(blendshapes.neutral, blendshapes.triangles))).sum(axis=1) > 0.5


def frontal_skin(full: FaceModelArrays) -> Bool[np.ndarray, "vertices"]:
    """The frontal region without eyeballs; all vertices of a model that names no regions."""
    mask = np.zeros(len(full.mean_shape), bool)
    mask[full.regions.get("frontal", np.arange(len(mask)))] = True
    for eye in ("left_eye", "right_eye"):
        mask[full.regions.get(eye, np.zeros(0, np.int64))] = False
    return mask


def rms(offsets: Float[np.ndarray, "points 3"], weights: Float[np.ndarray, "points"]) -> float:
    """Root mean square length over the area, in the offsets' unit."""
    return float(np.sqrt(np.average((offsets**2).sum(axis=1), weights=weights)))


def cosine(x: np.ndarray, y: np.ndarray, weights: Float[np.ndarray, "points"]) -> float:
    """Cosine of the angle between two displacement fields, 1 for the same direction everywhere."""
    lengths = rms(x, weights) * rms(y, weights)
    return float(np.average((x * y).sum(axis=1), weights=weights) / max(lengths, 1e-12))


def sheet(full: FaceModelArrays, carried: Carried, blendshapes: BlendshapeSet, out: Path) -> Path:
    """A picture: for each shape that the model names too, in clay, the set's, the transferred, and the model's own."""
    from mofaface.pictures import contact_sheet, save_picture

    own = own_shapes(full)
    mean, places = full.mean_shape.astype(np.float64), blendshapes.neutral
    tiles = []
    for k, name in enumerate(carried.names):
        if name in own.names:
            faces = [clay(places + blendshapes.displacements[k], blendshapes.triangles)]
            for fields in (carried.fields[k], own.fields[own.names.index(name)]):
                faces.append(clay(mean + fields, full.triangles))
            tiles.append(faces)
    rows = [sum(tiles[i : i + 4], []) for i in range(0, len(tiles), 4)]
    return save_picture(out, contact_sheet(rows))


def clay(positions: np.ndarray, triangles: np.ndarray, size: int = 160, wide_mm: float = 220.0) -> np.ndarray:
    """A grey picture of a surface from the front; 1 mm is the same in every picture."""
    from mofaface.pictures import clay_colours, surface

    turn = np.array([1.0, -1.0, -1.0])  # camera axes: y down, z away from us
    normals = vertex_normals(Surface(positions, triangles.astype(np.int64))) * turn
    placed = (positions - [0.0, np.median(positions[:, 1]), 0.0]) * turn
    uv = placed[:, :2] * size / wide_mm + size / 2
    return surface(uv, placed[:, 2] + 1000.0, triangles, clay_colours(normals), size, size)


def main() -> None:
    """Print the figures of a real pair."""
    parser = argparse.ArgumentParser(description="Measure deformation transfer on a set of blendshapes.")
    parser.add_argument("set", type=Path)
    parser.add_argument("--model", default="open")
    parser.add_argument("--unit", default="mm")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--correspondence", type=Path)
    options = parser.parse_args()
    full = read_arrays(find_face_model(options.model))[0].subdivided()
    blendshapes = read_set(options.set, options.unit, correspondence=options.correspondence)
    figures, carried = measure_pair(full, blendshapes, correspond(full, blendshapes))
    print("unit: set mm, carried mm | own mm, cosine, apart mm | round trip mm of mm")
    for f in figures:
        own = "" if np.isnan(f.own_mm) else f"{f.own_mm:6.2f} {f.cosine:6.2f} {f.apart_mm:6.2f}"
        print(
            f"{f.name:20s} {f.set_mm:6.2f} {f.carried_mm:6.2f} | {own:20s} | "
            f"{f.round_trip_mm:6.3f} {f.round_trip_of_mm:6.2f}"
        )
    print(summary(figures))
    if options.sheet:
        print(sheet(full, carried, blendshapes, options.sheet))


def summary(figures: list[UnitFigures]) -> str:
    """Means over the shapes that move the face at all, and over those that the model names too."""
    moving = [f for f in figures if f.set_mm > 0.05]
    shared = [(f.cosine, f.apart_mm, f.own_mm) for f in moving if f.own_mm > 0.05]
    trip, size = np.mean([[f.round_trip_mm, f.round_trip_of_mm] for f in moving], axis=0)
    text = f"{len(moving)} moving shapes: round trip {trip:.3f} mm of {size:.2f} mm"
    if not shared:
        return text
    direction, apart, own = np.mean(shared, axis=0)
    return (
        f"{text}; {len(shared)} shared: cosine {direction:.2f}, {apart:.2f} mm apart, own motion {own:.2f} mm"
    )


if __name__ == "__main__":
    main()

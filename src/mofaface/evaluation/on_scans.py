"""The evaluation of a network on photos of people who were scanned."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mofaface.evaluation.bootstrap import figure
from mofaface.evaluation.mesh_files import read_scan
from mofaface.evaluation.result import Draw, Result
from mofaface.evaluation.scan import ALIGNMENTS, LISTS, ScanConfig, ScanErrors, scan_errors
from mofaface.evaluation.tables import scans_table
from mofaface.face_model import FaceModel
from mofaface.face_models.surface import Surface, vertex_normals
from mofaface.pictures import clay_colours, contact_sheet, save_picture, surface
from mofaface.reconstruct import Reconstructor
from mofaface.reconstruction import Reconstruction

MEASURES = ("surface_rigid", "surface_scaled", "places_rigid", "places_scaled")
TILE = 300


@dataclass(frozen=True)
class Scanned:
    """One photo beside its scan."""

    face: Reconstruction
    scan: Surface
    errors: ScanErrors


def evaluate_scans(
    reconstructor: Reconstructor,
    photos: Sequence[Path],
    scans: Sequence[Path],
    landmarks: Sequence[Path] = (),
    unit: Literal["mm", "cm", "m"] = "mm",
    config: ScanConfig | None = None,
) -> Result:
    """Distances between reconstructions and scans (mm); one scan for all photos, or one for each."""
    if len(scans) not in (1, len(photos)) or (landmarks and len(landmarks) != len(scans)):
        raise ValueError(
            f"--scan takes one mesh, or one for each photo, and --scan-landmarks a file for each mesh; got "
            f"{len(photos)} photos, {len(scans)} meshes and {len(landmarks)} files of landmarks"
        )
    model = reconstructor.autoencoder.decoder.model
    coarse = model.coarse()
    kept = model.arrays.coarse_vertices
    rows = np.arange(model.vertices) if kept is None else kept.astype(np.int64)
    triangles = coarse.triangles.cpu().numpy()
    known = {
        path: _scan(path, landmarks[i] if landmarks else None, unit, model) for i, path in enumerate(scans)
    }
    found: dict[str, Scanned] = {}
    for i, photo in enumerate(photos):
        faces = reconstructor(photo)
        if not faces:
            raise ValueError(f"{photo} shows no face; leave it out, with its scan")
        scan, marks = known[scans[0 if len(scans) == 1 else i]]
        own = Surface(faces[0].vertices.astype(np.float64), faces[0].triangles)
        errors = scan_errors(
            own, rows, triangles, model.landmarks_68.cpu().numpy(), scan, marks, config or ScanConfig()
        )
        found[f"{i + 1} {photo.name}"] = Scanned(faces[0], scan, errors)
    return _result(found, model, rows)


def read_landmarks(path: Path) -> np.ndarray:
    """Points of a text file in the scan's unit: a line of x y z each, # starts a comment; else ValueError."""
    try:
        lines = (
            line.split("#")[0].replace(",", " ").split() for line in path.read_text("utf-8").splitlines()
        )
        points = np.array([[float(word) for word in words] for words in lines if words])
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must hold three numbers a line ({error}); correct it") from None
    if points.ndim != 2 or points.shape[1] != 3 or len(points) not in LISTS:
        raise ValueError(
            f"{path} must hold {', '.join(map(str, LISTS))} lines of x y z; it has the shape {points.shape}"
        )
    return points


def _scan(path: Path, landmarks: Path | None, unit: str, model: FaceModel) -> tuple[Surface, np.ndarray]:
    """A scan and its landmarks in mm: of the file given, of NAME.landmarks.txt beside it, or the model's own vertices."""
    scan = read_scan(path, unit)
    beside = path.with_suffix(".landmarks.txt")
    given = landmarks or (beside if beside.is_file() else None)
    if given is not None:
        factor = {"mm": 1.0, "cm": 10.0, "m": 1000.0}[unit]
        return scan, read_landmarks(given) * factor
    if len(scan.positions) == model.vertices:
        return scan, scan.positions[model.landmarks_68.cpu().numpy()]
    raise ValueError(
        f"{path} needs landmarks: give --scan-landmarks FILE, or put them into {beside.name} beside it "
        f"({', '.join(map(str, LISTS))} lines of x y z: the usual 68, the 51 without the jaw, or outer and inner "
        "corner of the right eye, inner and outer corner of the left eye, base of the nose, right and left mouth corner)"
    )


def _result(found: dict[str, Scanned], model: FaceModel, rows: np.ndarray) -> Result:
    each = {name: one.errors.plain() for name, one in found.items()}
    figures: dict[str, Any] = {"scans": each, "mean": {}}
    for measure in MEASURES:
        figures["mean"][measure] = figure(
            np.array([values[measure]["mean"] for values in each.values()])
        ).plain()
    drawings: dict[str, Draw] = {
        "curve_scans.png": partial(_curves, found),
        "mesh_places.png": partial(_heat, found, model, rows),
        "scans.png": partial(_sheet, found),
    }
    return Result(figures, (scans_table(each),), drawings)


def _curves(found: dict[str, Scanned], path: Path) -> object:
    from mofaface.evaluation.plots import share_curves

    joined = {}
    errors = [one.errors for one in found.values()]
    area = np.concatenate([e.weight for e in errors])
    for how in ALIGNMENTS:
        surface_distance = np.concatenate([e.placed[how].distance for e in errors])
        joined[f"to the surface, {how}"] = surface_distance, area
    for how in ALIGNMENTS:
        places = np.concatenate([e.corresponding[how] for e in errors])
        joined[f"between places, {how}"] = places, np.ones(len(places))
    return share_curves(path, joined, "distance, mm", "share of points", "mm")


def _heat(found: dict[str, Scanned], model: FaceModel, rows: np.ndarray, path: Path) -> object:
    """Mean distance between corresponding places on the coarse mesh; grey where the scans have none."""
    from mofaface.evaluation.plots import heat_map

    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    for one in found.values():
        total[one.errors.found] += one.errors.corresponding["rigid"]
        count[one.errors.found] += 1
    mean = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return heat_map(
        path, model.coarse(), mean, "distance between corresponding places, rigid alignment", "mm"
    )


def _sheet(found: dict[str, Scanned], path: Path) -> object:
    """Photo, overlay, the estimate and the scan in one frame, and the distances on the scan."""
    from mofaface.evaluation.plots import heat_colours

    rows, labels = [], []
    for name, one in found.items():
        placed = one.errors.placed["rigid"]
        distance = np.full(len(one.scan.positions), np.nan)
        distance[one.errors.face] = placed.distance
        estimate = Surface(placed.positions, one.face.triangles)
        frame = _frame(one)
        rows.append(
            [
                one.face.crop.pixels,
                one.face.overlay(),
                _clay(estimate, frame),
                _clay(one.scan, frame),
                _clay(one.scan, frame, heat_colours(distance, 5.0)),
            ]
        )
        mean = one.errors.plain()["surface_rigid"]["mean"]
        labels.append([f"{name}: {mean:.2f} mm from the scan (right: 0 to 5 mm, dark to light)"])
    return save_picture(
        path, contact_sheet(rows, ("photo", "overlay", "estimate", "scan", "distance"), labels, TILE)
    )


def _frame(one: Scanned) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation to a frontal view, centre and half height of what is shown, by the estimate's own axes."""
    x, y = one.face.vertices.astype(np.float64), one.errors.placed["rigid"].positions
    a, b = x - x.mean(0), y - y.mean(0)
    U, _, Vt = np.linalg.svd(a.T @ b)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    return (U * sign) @ Vt, y.mean(0), 0.55 * float(np.ptp(y @ ((U * sign) @ Vt).T, axis=0)[1])


def _clay(
    mesh: Surface, frame: tuple[np.ndarray, np.ndarray, float], colours: np.ndarray | None = None
) -> np.ndarray:
    R, centre, half = frame
    x = (mesh.positions - centre) @ R.T
    camera = np.array([1.0, -1.0, -1.0])
    uv = (x * camera)[:, :2] * (TILE / 2 / half) + TILE / 2
    shade = clay_colours(vertex_normals(Surface(x, mesh.triangles)) * camera)
    return surface(uv, 1000 - x[:, 2], mesh.triangles, shade if colours is None else colours, TILE, TILE)

"""ICT-FaceKit: its folder of OBJ files, or the same as one npz (docs/importers.md)."""

import json
from pathlib import Path

import numpy as np

from mofaface.face_models.blendshape_sets import fan, read_obj
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

LICENCE = "MIT (USC Institute for Creative Technologies)"
MM_PER_CM = 10.0
# Its expressions are no statistics. With this standard deviation random faces move as the open model's do; a choice.
STRENGTH = 0.15
NEUTRAL = "generic_neutral_mesh"
# Vertices of the full topology: face area and head, then both eyeballs. Teeth, gums and sockets lie behind, left out.
FULL, PARTS = 26_719, ((0, 9409), (21_451, 24_591))


def read_ict(files: list[Path]) -> RawModel:
    """Identity modes (N(0, 1)) and named expressions at full strength; no reflectance."""
    path = files[0]
    if path.is_dir():
        packed = sorted(path.glob("*.npz"))
        folders = [path, path / "raw", path / "FaceXModel"]
        folder = next((f for f in folders if _objs(f).get(NEUTRAL)), None)
        if packed:
            return _from_npz(packed[0])
        if folder is None:
            raise ModelFileError(
                f"ICT-FaceKit's folder holds {NEUTRAL}.obj; {path} does not: give the folder FaceXModel"
            )
        return _from_folder(folder)
    return _from_npz(path)


def _objs(folder: Path) -> dict[str, Path]:
    """OBJ files of a folder, packed or not, by their name without endings."""
    found = sorted(folder.glob("*.obj")) + sorted(folder.glob("*.obj.gz")) if folder.is_dir() else []
    return {path.name.split(".")[0]: path for path in found}


def _from_folder(folder: Path) -> RawModel:
    objs = _objs(folder)
    neutral, triangles = read_obj(objs.pop(NEUTRAL))
    keep = (
        np.concatenate([np.arange(*part) for part in PARTS])
        if len(neutral) == FULL
        else np.arange(len(neutral))
    )
    identity, shapes = [], {}
    for name, path in objs.items():
        positions, _ = read_obj(path)
        if positions.shape != neutral.shape:
            raise ModelFileError(
                f"{path} has {len(positions)} vertices, the neutral mesh {len(neutral)}; download it again"
            )
        offset = (positions - neutral)[keep]
        if name.startswith("identity"):
            identity.append(offset)
        else:
            shapes[name] = offset
    place = np.full(len(neutral), -1)
    place[keep] = np.arange(len(keep))
    triangles = place[triangles]
    marks = folder / "vertex_indices.json"
    landmarks = (
        json.loads(marks.read_text(encoding="utf-8"))["idx_to_landmark_verts"] if marks.is_file() else None
    )
    return _assemble(
        neutral[keep],
        np.stack(identity) if identity else np.zeros((0, len(keep), 3)),
        tuple(shapes),
        np.stack(list(shapes.values())) if shapes else np.zeros((0, len(keep), 3)),
        triangles[(triangles >= 0).all(axis=1)],
        None if landmarks is None else place[np.array(landmarks)],
    )


def _from_npz(path: Path) -> RawModel:
    names = ("neutral_cm", "identity_cm", "expression_cm", "expression_names", "polygons", "landmarks_68")
    try:
        with np.load(path, allow_pickle=False) as file:
            a = {name: file[name] for name in names}
    except (OSError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"{path} must be ICT-FaceKit as an npz with {', '.join(names)} ({error})"
        ) from error
    labels = tuple(str(name) for name in a["expression_names"])
    triangles = fan(a["polygons"].astype(np.int64))
    return _assemble(
        a["neutral_cm"].astype(np.float64),
        a["identity_cm"].astype(np.float64),
        labels,
        a["expression_cm"].astype(np.float64),
        triangles,
        a["landmarks_68"].astype(np.int64),
    )


def _assemble(
    neutral: np.ndarray,
    identity: np.ndarray,
    names: tuple[str, ...],
    shapes: np.ndarray,
    triangles: np.ndarray,
    landmarks: np.ndarray | None,
) -> RawModel:
    mean = neutral.astype(np.float64) * MM_PER_CM
    return RawModel(
        name="ict-facekit",
        version=f"{len(identity)} identities, {len(names)} expressions",
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=np.moveaxis(identity, 0, 2) * MM_PER_CM,
        expression_basis=np.moveaxis(shapes, 0, 2) * MM_PER_CM * STRENGTH,
        triangles=outward(mean, triangles.astype(np.int64)),
        landmarks_68=landmarks,
        unit_names=names,
        units=np.eye(len(names)) / STRENGTH,
        notes=f"ICT-FaceKit; a coefficient of 1 is {STRENGTH} of one of its expressions.",
    )

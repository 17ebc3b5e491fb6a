"""Sets of blendshapes as files: a folder of .obj files, ICT-FaceKit's folder, or an .npz of arrays.

* folder: `neutral.obj` and one .obj of the same mesh per named shape; `.obj.gz` too. Optional beside them:
  `landmarks_68.txt`, `.json` or `.npy` (68 vertex numbers from 0, -1 for one the mesh lacks) and `correspondence.npz`.
* ICT-FaceKit's folder: `generic_neutral_mesh.obj` and named shapes; identity shapes are left out, and of its parts only
  the face area and the eyeballs are kept (teeth, gums and sockets lie behind the surface that is matched).
* .npz: `neutral` (V, 3), `shapes` (K, V, 3) or `displacements` (K, V, 3), `names` (K), `triangles` (F, 3) or `polygons`
  (F, n) padded with -1; optionally `landmarks_68`. ICT's `neutral_cm`, `expression_cm` and
  `expression_names` are read as well.
* correspondence .npz: for each vertex of the face model `triangle` (row of the set's triangles, -1 for none) and
  `barycentric` (N, 3), or `vertex` (vertex number of the set, -1 for none).
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
ICT_NEUTRAL = "generic_neutral_mesh"
ICT_FULL_VERTICES = 26_719
# Vertices of ICT-FaceKit's full topology: face area, then left and right eyeball, as its documentation lists them.
ICT_PARTS = ((0, 9409), (21_451, 24_591))


class BlendshapeError(ValueError):
    """Files that should hold blendshapes and do not."""


@dataclass(frozen=True)
class Sampling:
    """Where each vertex of a face model lies on a set's mesh: three of its vertices and their weights."""

    corners: Int[np.ndarray, "vertices 3"]
    weights: Float[np.ndarray, "vertices 3"]
    found: Bool[np.ndarray, "vertices"]

    def __call__(self, values: Float[np.ndarray, "source c"]) -> Float[np.ndarray, "vertices c"]:
        """Values at the set's vertices, interpolated at the model's."""
        return np.einsum("vk,vkc->vc", self.weights, values[self.corners])


@dataclass(frozen=True)
class BlendshapeSet:
    """A neutral face and displacements from it, mm, on a mesh of its own."""

    name: str
    neutral: Float[np.ndarray, "source 3"]
    displacements: Float[np.ndarray, "shapes source 3"]
    names: tuple[str, ...]
    triangles: Int[np.ndarray, "faces 3"]
    landmarks_68: Int[np.ndarray, "68"] | None = None
    sampling: Sampling | None = None


def read_set(
    path: Path, unit: str = "mm", landmarks: Path | None = None, correspondence: Path | None = None
) -> BlendshapeSet:
    """The blendshapes of a folder or an .npz; `unit` is the length of one unit in its files (ICT's own need none)."""
    if path.is_dir():
        found = _read_folder(path, MM[unit])
        landmarks = landmarks or next(iter(sorted(path.glob("landmarks_68.*"))), None)
        beside = path / "correspondence.npz"
        correspondence = correspondence or (beside if beside.is_file() else None)
    elif path.suffix == ".npz" and path.is_file():
        found = _read_npz(path, MM[unit])
    else:
        raise BlendshapeError(f"a blendshape set is a folder of .obj files or an .npz, and {path} is neither")
    picked = found.landmarks_68 if landmarks is None else read_landmarks(landmarks)
    _check(found, picked, path)
    sampling = None if correspondence is None else read_correspondence(correspondence, found.triangles)
    return BlendshapeSet(
        found.name, found.neutral, found.displacements, found.names, found.triangles, picked, sampling
    )


def read_landmarks(path: Path) -> Int[np.ndarray, "68"]:
    """68 vertex numbers from 0 of a .txt, .json or .npy; -1 stands for one that the mesh lacks."""
    if not path.is_file():
        raise BlendshapeError(f"landmarks are a file of 68 vertex numbers, and there is none at {path}")
    try:
        if path.suffix == ".npy":
            numbers = np.load(path, allow_pickle=False)
        elif path.suffix == ".json":
            numbers = np.array(json.loads(path.read_text(encoding="utf-8")))
        else:
            numbers = np.array([int(word) for word in path.read_text(encoding="utf-8").split()])
        whole = np.ravel(numbers).astype(np.int64)
    except (ValueError, TypeError) as error:
        raise BlendshapeError(
            f"landmarks are 68 whole numbers; {path} holds something else ({error})"
        ) from None
    if whole.shape != (68,):
        raise BlendshapeError(f"landmarks are 68 vertex numbers from 0; {path} holds {whole.size}")
    return whole


def read_correspondence(path: Path, triangles: Int[np.ndarray, "faces 3"]) -> Sampling:
    """The sampling of a correspondence file (see the module's text)."""
    data = _open_npz(path)
    if "vertex" in data:
        vertex = data["vertex"].astype(np.int64)
        found, corners = vertex >= 0, np.repeat(np.maximum(vertex, 0)[:, None], 3, axis=1)
        weights = np.tile([1.0, 0.0, 0.0], (len(vertex), 1))
    elif "triangle" in data and "barycentric" in data:
        triangle = data["triangle"].astype(np.int64)
        if triangle.max(initial=-1) >= len(triangles) or data["barycentric"].shape != (len(triangle), 3):
            raise BlendshapeError(
                f"a correspondence gives rows of the set's {len(triangles)} triangles and three weights each; "
                f"{path} has triangle {triangle.max()} and weights of shape {data['barycentric'].shape}"
            )
        found, corners = triangle >= 0, triangles[np.maximum(triangle, 0)].astype(np.int64)
        weights = data["barycentric"].astype(np.float64)
    else:
        raise BlendshapeError(
            f"a correspondence holds `triangle` and `barycentric`, or `vertex`; {path} holds {sorted(data)}"
        )
    return Sampling(corners, weights, found)


def arkit_name(name: str) -> str:
    """ARKit's name of a shape: eyeBlink_L is eyeBlinkLeft."""
    for short, long in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(short):
            return name.removesuffix(short) + long
    return name


def _read_folder(path: Path, mm: float) -> BlendshapeSet:
    files = {p.name.removesuffix(".gz").removesuffix(".obj"): p for p in sorted(path.iterdir()) if _is_obj(p)}
    ict = ICT_NEUTRAL in files
    start = ICT_NEUTRAL if ict else "neutral"
    if start not in files:
        raise BlendshapeError(
            f"a folder of blendshapes holds neutral.obj (or ICT-FaceKit's {ICT_NEUTRAL}.obj); {path} does not"
        )
    mm = MM["cm"] if ict else mm
    neutral, triangles = read_obj(files.pop(start))
    names = [n for n in files if not (ict and n.startswith("identity"))]
    shapes = [_same_mesh(read_obj(files[n])[0], neutral, files[n]) for n in names]
    displacements = mm * (np.array(shapes).reshape(-1, *neutral.shape) - neutral)
    found = BlendshapeSet(
        path.name, mm * neutral, displacements, tuple(arkit_name(n) for n in names), triangles
    )
    if not ict:
        return found
    side = path / "vertex_indices.json"
    marks = json.loads(side.read_text())["idx_to_landmark_verts"] if side.is_file() else None
    return _ict_parts(found, None if marks is None else np.array(marks))


def _is_obj(path: Path) -> bool:
    return path.name.endswith((".obj", ".obj.gz"))


def _same_mesh(positions: np.ndarray, neutral: np.ndarray, path: Path) -> np.ndarray:
    if positions.shape != neutral.shape:
        raise BlendshapeError(
            f"shapes of a set have its neutral's vertices; {path} has {len(positions)}, the neutral {len(neutral)}"
        )
    return positions


def _ict_parts(found: BlendshapeSet, landmarks: np.ndarray | None) -> BlendshapeSet:
    """Face area and eyeballs of ICT's full mesh; a mesh of another size is taken as it is."""
    if len(found.neutral) != ICT_FULL_VERTICES:
        return found
    keep = np.concatenate([np.arange(*part) for part in ICT_PARTS])
    number = np.full(len(found.neutral), -1)
    number[keep] = np.arange(len(keep))
    triangles = number[found.triangles]
    return BlendshapeSet(
        found.name,
        found.neutral[keep],
        found.displacements[:, keep],
        found.names,
        triangles[(triangles >= 0).all(axis=1)],
        None if landmarks is None else number[landmarks],
    )


def read_obj(path: Path) -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]:
    """Positions and triangles (polygons as fans) of a Wavefront file; all else in it is passed over."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8", "replace")
    positions, polygons = [], []
    try:
        for line in text.splitlines():
            if line.startswith("v "):
                positions.append([float(x) for x in line.split()[1:4]])
            elif line.startswith("f "):
                polygons.append([int(corner.partition("/")[0]) for corner in line.split()[1:]])
        points = np.array(positions, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise BlendshapeError(f"{path} is not a readable .obj file ({error}); export it again") from None
    fans = [[p[0], p[i], p[i + 1]] for p in polygons for i in range(1, len(p) - 1)]
    triangles = np.array(fans, dtype=np.int64).reshape(-1, 3)
    # Wavefront counts from 1, or backwards from the end with negative numbers.
    return points, np.where(triangles < 0, triangles + len(points), triangles - 1)


def _open_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise BlendshapeError(
            f"{path} is not a readable .npz of plain arrays ({error}); write it again"
        ) from None


def _read_npz(path: Path, mm: float) -> BlendshapeSet:
    data = _open_npz(path)
    mm = MM["cm"] if "neutral_cm" in data else mm
    data = {_ICT_NAMES.get(name, name): value for name, value in data.items()}
    lacking = {"neutral", "names"} - data.keys()
    if (
        lacking
        or not {"shapes", "displacements"} & data.keys()
        or not {"triangles", "polygons"} & data.keys()
    ):
        raise BlendshapeError(
            "a set as .npz holds neutral, names, shapes or displacements, and triangles or polygons; "
            f"{path} holds {', '.join(sorted(data))}"
        )
    neutral = data["neutral"].astype(np.float64)
    offsets = data["displacements"] if "displacements" in data else data["shapes"] - neutral
    polygons = data["triangles"] if "triangles" in data else data["polygons"]
    return BlendshapeSet(
        path.stem,
        mm * neutral,
        mm * offsets.astype(np.float64),
        tuple(arkit_name(str(n)) for n in data["names"]),
        fan(polygons.astype(np.int64)),
        data["landmarks_68"].astype(np.int64) if "landmarks_68" in data else None,
    )


_ICT_NAMES = {"neutral_cm": "neutral", "expression_cm": "displacements", "expression_names": "names"}


def fan(polygons: Int[np.ndarray, "faces corners"]) -> Int[np.ndarray, "triangles 3"]:
    """Triangles of polygons that are padded with -1."""
    pieces = [polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)]
    triangles = np.concatenate(pieces)
    return triangles[(triangles >= 0).all(axis=1)]


def _check(found: BlendshapeSet, landmarks: np.ndarray | None, path: Path) -> None:
    vertices, shapes = len(found.neutral), found.displacements
    if shapes.shape != (len(found.names), vertices, 3) or not len(found.names):
        raise BlendshapeError(
            f"a set holds at least one shape of its neutral's {vertices} vertices, each with a name; {path} holds "
            f"shapes of {shapes.shape} and {len(found.names)} names"
        )
    if not (np.isfinite(found.neutral).all() and np.isfinite(shapes).all()):
        raise BlendshapeError(f"positions are finite numbers; {path} holds others: export it again")
    largest = max(found.triangles.max(initial=-1), -1 if landmarks is None else landmarks.max())
    if largest >= vertices or not len(found.triangles):
        raise BlendshapeError(
            f"triangles and landmarks number the {vertices} vertices from 0; {path} names vertex {largest} "
            f"in {len(found.triangles)} triangles"
        )

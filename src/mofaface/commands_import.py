"""`mofaface model import`: a licensed or foreign face model as a container file of this project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

Format = Literal[
    "bfm2009",
    "bfm2017",
    "bfm2019",
    "bfm2009-exp",
    "deep3d",
    "flame",
    "3ddfa_v2",
    "eos",
    "ict",
    "lyhm",
    "linear",
]


@dataclass(frozen=True)
class ModelImport:
    """Read a face model you own, and write it as a container that every command takes with --model."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The model's files, or its folder (docs/importers.md says which)."""
    format: Format
    """What wrote them."""
    out: Path = Path("imported.safetensors")
    """Container to write; keep it to yourself where the model's licence says so."""
    landmarks: Path | None = None
    """68 vertex numbers of the file's mesh, .txt, .json or .npy; found by the landmark detector where the file has none."""
    landmarks_from: Literal[0, 1] = 0
    """The number of the first vertex in that list."""
    crop: bool = True
    """Keep the frontal face only, as the paper does."""
    vertices: int | None = None
    """Resample to about so many vertices, for example 24000; the mesh stays as it is without."""
    shape_modes: int | None = None
    """Modes of shape to keep, the strongest; all without."""
    expression_modes: int | None = None
    """Modes of expression to keep."""
    reflectance_modes: int | None = None
    """Modes of reflectance to keep; a model without reflectance gets so many of the open model's (80 without)."""
    name: str | None = None
    """Name of the model; the format's without."""
    licence: Path | None = None
    """A text file with the licence you accepted, to be kept inside the container."""

    def run(self) -> int:
        """Import, write, and return the exit code."""
        from mofaface.face_models import find_face_model
        from mofaface.face_models.container import read_arrays, write_face_model
        from mofaface.face_models.importers import read_model
        from mofaface.face_models.importers.finish import FinishConfig, finish
        from mofaface.face_models.importers.landmarks import read_landmarks

        raw = read_model(self.format, list(self.files))
        marks = None
        if self.landmarks is not None:
            marks = read_landmarks(self.landmarks, len(raw.mean_shape), self.landmarks_from)
        config = FinishConfig(
            crop=self.crop,
            vertices=self.vertices,
            shape_modes=self.shape_modes,
            expression_modes=self.expression_modes,
            reflectance_modes=self.reflectance_modes,
            name=self.name,
            licence=None if self.licence is None else self.licence.read_text(encoding="utf-8").strip(),
        )
        open_model, _ = read_arrays(find_face_model("open"))
        write_face_model(self.out, finish(raw, open_model, config, marks))
        print(self.out)
        return 0

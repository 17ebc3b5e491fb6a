"""`mofaface model build-expression`: an expression basis from blendshapes on other topologies."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from mofaface.face_models import find_face_model
from mofaface.face_models.container import read_arrays, write_face_model


@dataclass(frozen=True)
class ModelBuildExpression:
    """Give a face model an expression basis made of blendshape sets (needs mofaface[build-model])."""

    shapes: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """A set: folder of neutral.obj and one .obj per shape, ICT-FaceKit folder, or .npz; give it once per set."""
    out: Path = Path("expression.safetensors")
    """Container to write."""
    model: str = "open"
    """"open" or a container file: the model that gets the basis."""
    modes: int = 64
    """How many modes at most."""
    own: bool = False
    """Let the model's own expressions take part."""
    spread: float = 2.9
    """Root mean square motion of a vertex of a random expression, mm; 0 leaves the shapes at full strength."""
    unit: Literal["mm", "cm", "m"] = "mm"
    """Length of one unit in the sets' files (ICT-FaceKit's are known)."""
    landmarks: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """68 vertex numbers (.txt, .json, .npy), one file per set in the same order; default: those beside each set."""
    correspondences: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Where the model's vertices lie on each set (.npz), one file per set; spares the registration."""

    def run(self) -> int:
        """Build, write, and return the exit code."""
        from mofaface.face_models.blendshape_sets import read_set
        from mofaface.face_models.build_expression import ExpressionBuildConfig, build_expression

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        landmarks = self._per_set("--landmarks", self.landmarks)
        correspondences = self._per_set("--correspondences", self.correspondences)
        if self.modes < 1:
            raise ValueError(f"an expression basis has at least one mode, got --modes {self.modes}")
        sets = [
            read_set(path, self.unit, marks, file)
            for path, marks, file in zip(self.shapes, landmarks, correspondences, strict=True)
        ]
        base, _ = read_arrays(find_face_model(self.model))
        config = ExpressionBuildConfig(self.modes, self.own, self.spread or None)
        write_face_model(self.out, build_expression(base, sets, config))
        print(self.out)
        return 0

    def _per_set(self, option: str, files: tuple[Path, ...]) -> list[Path | None]:
        """One entry for each set."""
        if files and len(files) != len(self.shapes):
            raise ValueError(
                f"{option} is given once per set or not at all: {len(self.shapes)} sets, {len(files)} files"
            )
        return list(files) or [None] * len(self.shapes)

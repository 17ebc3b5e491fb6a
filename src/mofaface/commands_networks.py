"""`mofaface train` and `mofaface evaluate`: networks, made and measured."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from mofaface.files import write_text_whole
from mofaface.terminal import console
from mofaface.weights import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Train:
    """Train a network. Give --recipe paper|default|FILE.json first; other options change that recipe."""

    arguments: tuple[str, ...] = field(default=())

    def run(self) -> int:
        """Train and return the exit code."""
        from mofaface.training import train
        from mofaface.training.options import parse_training

        config, resume = parse_training(self.arguments)
        console.print(f"wrote {train(config, resume)}", markup=False, highlight=False, soft_wrap=True)
        return 0


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
            write_text_whole(self.out, json.dumps(figures, indent=1))
        return 0

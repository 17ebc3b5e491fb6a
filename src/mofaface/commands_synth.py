"""`mofaface synth` and `mofaface synth-codes`: rendered faces whose codes are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mofaface.synthetic.config import SynthConfig
from mofaface.terminal import console
from mofaface.weights import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Synth:
    """Render faces with known codes as a corpus to train on and to measure with."""

    config: Annotated[SynthConfig, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Render, describe what was made, and return the exit code."""
        from mofaface.corpus import describe_corpus
        from mofaface.synthetic import build_synthetic

        build_synthetic(self.config)
        print(describe_corpus(self.config.out))
        return 0


@dataclass(frozen=True)
class SynthCodes:
    """Read pose, light and expression off the photographs of a corpus, for `mofaface synth --codes`."""

    corpus: Path
    """Folder that `corpus build` made."""
    out: Path = Path("codes.npz")
    """File to write."""
    weights: str = DEFAULT_WEIGHTS
    """Trained weights: a shipped name or a file."""
    model: str = "open"
    """Face model of the weights."""
    split: Literal["train", "validation"] = "train"
    """Which part of the corpus: train, or validation."""

    def run(self) -> int:
        """Read, write, and return the exit code."""
        from mofaface.corpus import load_corpus
        from mofaface.reconstruct import load
        from mofaface.synthetic import codes_of_corpus, write_codes

        autoencoder = load(self.weights, self.model, device="cpu", refine=0).autoencoder
        real = codes_of_corpus(autoencoder, load_corpus(self.corpus, self.split))
        write_codes(self.out, real)
        console.print(f"wrote {len(real.codes)} codes to {self.out}", markup=False, highlight=False)
        return 0

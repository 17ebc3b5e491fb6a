"""How a run's errors on held-out people fall while it learns: figures 9 and 10 of Tewari et al. 2017, from its log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mofaface.training.config import TrainConfig, load_recipe

PREFIX = "validation_"
# What the log's names are called among METRICS, in the order of the panels.
PHOTOGRAPHS = {"photometric": "photometric", "landmark_px": "landmark_px"}
SYNTHETIC = {
    "geometry_mm": "geometry_mm",
    "photometric": "truth_photometric",
    "landmark_px": "truth_landmark_px",
}


@dataclass(frozen=True)
class LearningCurves:
    """The validations of one run."""

    name: str
    """The folder's."""
    supervision: str
    """What the run learnt from beside pixels."""
    synthetic: bool
    """Whether its held-out faces were rendered, so that their geometry is known."""
    iterations: Int[np.ndarray, "validations"]
    errors: dict[str, Float[np.ndarray, "validations"]]
    """By the names of METRICS."""

    @property
    def title(self) -> str:
        """The run as a legend names it."""
        return f"{self.name}, {self.supervision}"


def read_curves(run: Path) -> LearningCurves:
    """The validations in the log of a run's folder; ValueError where there is none."""
    log = run / "log.jsonl"
    if not log.is_file():
        raise ValueError(f"{run} holds no log.jsonl; give the folder of a training run (its --out)")
    lines = [line for line in map(_parsed, log.read_text(encoding="utf-8").splitlines()) if line]
    validations = [line for line in lines if f"{PREFIX}photometric" in line]
    if not validations:
        raise ValueError(f"{log} holds no validation yet; let the run reach its first one")
    synthetic = all(f"{PREFIX}geometry_mm" in line for line in validations)
    errors = {
        metric: np.array([line[PREFIX + name] for line in validations], np.float64)
        for name, metric in (SYNTHETIC if synthetic else PHOTOGRAPHS).items()
    }
    return LearningCurves(
        run.resolve().name,
        supervision(config_of(run)),
        synthetic,
        np.array([line["iteration"] for line in validations]),
        errors,
    )


def supervision(config: TrainConfig) -> str:
    """What a run learns from beside pixels."""
    if config.weights.truth:
        return "with true codes"
    if not config.weights.land or not (config.believe_landmarks or config.rendered):
        return "unsupervised"
    return "with landmarks" if config.believe_landmarks else "with rendered faces' landmarks"


def config_of(run: Path) -> TrainConfig:
    """The configuration that a run's folder holds."""
    return load_recipe(str(run / "config.json"))


def one_kind(runs: Sequence[LearningCurves]) -> Sequence[LearningCurves]:
    """The runs themselves; ValueError where some learnt from photographs and some from rendered faces."""
    kinds = {run.synthetic for run in runs}
    if len(kinds) > 1:
        rendered = ", ".join(run.name for run in runs if run.synthetic)
        raise ValueError(
            f"runs on photographs and on rendered faces ({rendered}) have other errors; draw each kind alone"
        )
    return runs


def _parsed(line: str) -> dict[str, Any]:
    """A line of the log; nothing for one that a killed run left half-written."""
    try:
        return json.loads(line)
    except ValueError:
        return {}

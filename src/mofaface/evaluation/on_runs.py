"""Training runs beside each other and beside the paper: what they reached on held-out people, and how fast."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mofaface.evaluation.learning_curves import LearningCurves, one_kind, read_curves
from mofaface.evaluation.published import METRICS
from mofaface.evaluation.result import Result
from mofaface.evaluation.tables import curves_table


def evaluate_runs(folders: Sequence[Path]) -> Result:
    """The learning curves of training runs; ValueError for a folder without one, or for runs of different kinds."""
    runs = one_kind([read_curves(folder) for folder in folders])
    return Result(
        {"runs": [_plain(run) for run in runs]},
        (curves_table(runs),),
        {"curves.png": partial(draw_curves, runs)},
    )


def draw_curves(runs: Sequence[LearningCurves], path: Path) -> Path:
    """Draw them; matplotlib is needed only here."""
    from mofaface.evaluation.plots import learning_curves

    return learning_curves(path, runs)


def _plain(run: LearningCurves) -> dict[str, Any]:
    return {
        "name": run.name,
        "supervision": run.supervision,
        "iterations": run.iterations.tolist(),
        "errors": {name: values.tolist() for name, values in run.errors.items()},
        "published": {name: METRICS[name].published for name in run.errors},
    }

"""The evaluation of a network on clips: how much the face trembles."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mofaface.evaluation.jitter import UNITS, clips, frames, jitter, summarise
from mofaface.evaluation.result import Draw, Result
from mofaface.evaluation.tables import jitter_table
from mofaface.reconstruct import Reconstructor


def evaluate_clips(
    reconstructor: Reconstructor, path: Path, progress: Callable[[int], None] = lambda photos: None
) -> Result:
    """Second differences over the clips of a video, folder or archive; ValueError without three frames in a row."""
    focal = reconstructor.autoencoder.decoder.camera.focal
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, items in clips(path).items():
        if len(items) >= 3:
            found[name] = jitter(list(frames(reconstructor, items)), focal)
            progress(len(items))
    figures, rest = summarise(found)
    plain: dict[str, Any] = {name: value.plain() for name, value in figures.items()} | rest
    shown = ("landmarks_px", "detector_px", "against_detector_px")
    values = {name: np.concatenate([v[name] for v in found.values()]) for name in shown}
    drawings: dict[str, Draw] = {"curve_jitter.png": partial(_curves, values)}
    return Result(plain, (jitter_table(figures, UNITS),), drawings)


def _curves(values: dict[str, np.ndarray], path: Path) -> object:
    from mofaface.evaluation.plots import share_curves

    titles = {name: name.rsplit("_", 1)[0].replace("_", " ") for name in values}
    return share_curves(
        path,
        {titles[name]: (v, np.ones(len(v))) for name, v in values.items()},
        "second difference, px at 240",
        "share of frames",
        "px",
    )

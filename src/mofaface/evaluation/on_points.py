"""The evaluation of a network against points that somebody else marked."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mofaface.corpus import iterate_images
from mofaface.evaluation.points import PointErrors, Points, errors_on_points, landmark_finder, summarise
from mofaface.evaluation.published import METRICS
from mofaface.evaluation.result import Draw, Result
from mofaface.evaluation.sheets import chosen_names, sheet_of_points
from mofaface.evaluation.tables import figures_table
from mofaface.photo import read_photo
from mofaface.reconstruct import Reconstructor


def evaluate_points(
    reconstructor: Reconstructor,
    points: dict[str, Points],
    images: Path,
    detector_too: bool = False,
    progress: Callable[[int], None] = lambda photos: None,
) -> Result:
    """Landmark error of a network on annotated photos; ValueError where none of them gives a face."""
    found: dict[str, PointErrors | None] = {}
    for name, errors in errors_on_points(landmark_finder(reconstructor, detector_too), points, images):
        found[name] = errors
        progress(1)
    figures, rest = summarise(found)
    measured = {name: errors for name, errors in found.items() if errors is not None}
    main = "five_points" if "five_points" in figures else "inner_51"
    title = f"{len(measured)} annotated photos, {rest['no_face']} more without a face"
    rows = tuple(_row(name, errors) for name, errors in measured.items())
    drawings: dict[str, Draw] = {
        f"curve_{main}.png": partial(_curve, main, np.array([row["relative"] for row in rows])),
        "cases_points.png": partial(_sheet, measured, points, images),
    }
    plain: dict[str, Any] = {name: value.plain() for name, value in figures.items()} | rest
    plain["published"] = {name: METRICS[name].published for name in figures if METRICS[name].published}
    return Result(plain, (figures_table(figures, title),), drawings, rows)


def _row(name: str, errors: PointErrors) -> dict[str, Any]:
    return {"name": name, "relative": errors.error, "px_at_240": float(errors.pixels[errors.judged].mean())}


def _curve(name: str, values: np.ndarray, path: Path) -> object:
    from mofaface.evaluation.plots import error_curves

    return error_curves(path, name, {"all": values})


def _sheet(measured: dict[str, PointErrors], points: dict[str, Points], images: Path, path: Path) -> object:
    wanted = chosen_names(measured)
    photos = {
        Path(name).name: read_photo(data).pixels
        for name, data in iterate_images(images)
        if Path(name).name in wanted
    }
    return sheet_of_points(path, photos, points, measured)

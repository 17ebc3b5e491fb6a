"""Figures as tables for the terminal, each beside what others published."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mofaface.evaluation.bootstrap import Figure
from mofaface.evaluation.groups import FEWEST
from mofaface.evaluation.learning_curves import LearningCurves
from mofaface.evaluation.plausibility import EXPECTED_FAR, PARTS, Plausibility
from mofaface.evaluation.published import METRICS, Metric


def number(value: float, digits: int = 3) -> str:
    """A value to read: three significant digits."""
    return f"{value:#.{digits}g}".rstrip(".") if value == value else "–"


def with_interval(figure: Figure, factor: float = 1.0) -> str:
    """Mean and interval."""
    if figure.low != figure.low:
        return f"{number(factor * figure.mean)} [one person]"
    return f"{number(factor * figure.mean)} [{number(factor * figure.low)}, {number(factor * figure.high)}]"


def figures_table(figures: dict[str, Figure], title: str = "") -> Table:
    """One line for each figure, in the order of METRICS; figures of other names after them."""
    table = _table(
        title, "figure", "unit", "mean [95 % interval]", "median", "90 %", "photos", "people", "published"
    )
    for name in sorted(figures, key=lambda n: list(METRICS).index(n) if n in METRICS else len(METRICS)):
        value, metric = figures[name], METRICS.get(name, Metric(name, ""))
        f = metric.factor
        table.add_row(
            metric.title,
            metric.unit,
            with_interval(value, f),
            number(f * value.median),
            number(f * value.p90),
            str(value.count),
            str(value.people),
            metric.published or "–",
        )
    return table


def groups_table(title: str, groups: dict[str, dict[str, Figure]], metrics: tuple[str, ...]) -> Table:
    """One line for each group with its figures."""
    table = _table(title, "group", "photos", *(f"{METRICS[m].title}, {METRICS[m].unit}" for m in metrics))
    for name in next(iter(groups.values())):
        count = groups[metrics[0]][name].count
        few = " (too few to judge)" if count < FEWEST else ""
        cells = (with_interval(groups[m][name], METRICS[m].factor) for m in metrics)
        table.add_row(name + few, str(count), *cells)
    return table


def plausibility_table(found: dict[str, Plausibility]) -> Table:
    """What is expected of N(0, 1) beside what the network says."""
    far = f"beyond 3 σ, % ({100 * EXPECTED_FAR:.2f})"
    table = _table(
        "coefficients (in brackets what N(0, 1) gives)",
        "part",
        "rms of a photo (1)",
        far,
        "rms of each coefficient, least to most (1)",
        "largest mean (0)",
    )
    for name, value in found.items():
        table.add_row(
            f"{name}, {PARTS[name]}",
            with_interval(value.rms),
            with_interval(value.far, 100),
            f"{value.each_rms.min():.2f} to {value.each_rms.max():.2f}",
            f"{abs(value.each_mean).max():.2f}",
        )
    return table


def scans_table(rows: dict[str, dict[str, dict[str, float]]]) -> Table:
    """One line for each scan and measure, mm."""
    table = _table("scans, mm", "photo", "measure", "mean", "median", "90 %", "scale")
    for name, measures in rows.items():
        for measure, values in measures.items():
            cells = (number(values[k]) for k in ("mean", "median", "p90"))
            scale = f"{values['scale']:.4f}" if "scale" in values else ""
            table.add_row(name, measure.replace("_", ", "), *cells, scale)
    return table


def jitter_table(figures: dict[str, Figure], units: dict[str, str]) -> Table:
    """Second differences of landmarks, vertices and rotation."""
    table = _table(
        "jitter: second differences, rms", "of", "unit", "mean [95 % interval]", "median", "90 %", "triples"
    )
    for name, value in figures.items():
        table.add_row(
            name.rsplit("_", 1)[0].replace("_", " "),
            units[name],
            with_interval(value),
            number(value.median),
            number(value.p90),
            str(value.count),
        )
    return table


def curves_table(runs: Sequence[LearningCurves]) -> Table:
    """One line for each run and error: where it began, its best, and where it is."""
    table = _table(
        "validation while learning",
        "run",
        "iterations",
        "figure",
        "unit",
        "first",
        "best",
        "last",
        "published",
    )
    for run in runs:
        for name, values in run.errors.items():
            metric = METRICS[name]
            table.add_row(
                run.title,
                str(run.iterations[-1]),
                metric.title,
                metric.unit,
                number(values[0]),
                f"{number(values.min())} at {run.iterations[values.argmin()]}",
                number(values[-1]),
                metric.published or "–",
            )
    return table


def protocol_table(figures: dict[str, dict[str, Any]], training: dict[str, Any], photos: int) -> Table:
    """One line for each error of the paper's figure 10: from the start of training to its end, ours and the paper's."""
    title = (
        f"{photos} synthetic faces, {training['network']} {training['supervision']}, "
        f"{training['iterations']} iterations of {training['batch']} pictures"
    )
    table = _table(title, "figure", "unit", "start", "end [95 % interval]", "paper: start", "end")
    for row in figures.values():
        low, high = (number(math.nan if v is None else v) for v in row["interval"])
        table.add_row(
            row["title"],
            row["unit"],
            number(row["start"]),
            f"{number(row['end'])} [{low}, {high}]",
            f"{row['published']['start']:g}",
            f"{row['published']['end']:g}",
        )
    return table


def _table(title: str, *headings: str) -> Table:
    return Table(*headings, title=title or None, title_justify="left", box=None, pad_edge=False)

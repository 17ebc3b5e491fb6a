"""Plots of an evaluation as PNG files: error curves, histograms, groups, and errors drawn onto the mesh.

Needs matplotlib (the extra `evaluate`); nothing is shown on a screen.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure as Plot

from mofaface.evaluation.bootstrap import Figure
from mofaface.evaluation.groups import FEWEST
from mofaface.evaluation.learning_curves import LearningCurves
from mofaface.evaluation.plausibility import EDGES, PARTS, Plausibility
from mofaface.evaluation.published import METRICS
from mofaface.face_model import FaceModel
from mofaface.files import written_whole
from mofaface.pictures import surface

DPI = 110
HEAT = "viridis"
# Room at the far end of an error curve is cut where this share of the photographs lies below.
CURVE_END = 0.99
# Turns about the vertical axis from which a mesh is shown, degrees.
VIEWS = (-50.0, 0.0, 50.0)
VIEW_SIZE = 420


def error_curves(path: Path, name: str, values: dict[str, Float[np.ndarray, "_"]]) -> Path:
    """The share of photographs below each error, one curve for each group of values, and published means as lines."""
    metric = METRICS[name]
    plot = Plot(figsize=(9.5, 4.6), layout="constrained")
    axes = plot.add_subplot()
    everything = metric.factor * np.concatenate(list(values.values()))
    end = max(float(np.quantile(everything, CURVE_END)), 1e-9)
    for i, (group, errors) in enumerate(values.items()):
        x = np.sort(metric.factor * errors)
        share = np.arange(1, len(x) + 1) / len(x)
        mean = f"{group} (mean {x.mean():.3g}, n = {len(x)})"
        style = dict(linewidth=2.4, color="black") if i == 0 else dict(linewidth=1.2)
        axes.step(np.r_[0, x], np.r_[0, share], where="post", label=mean, **style)  # type: ignore[arg-type]
    for (text, value), dashes in zip(metric.lines, ("--", ":"), strict=False):
        end = max(end, 1.05 * value)
        axes.axvline(
            value, color="firebrick", linestyle=dashes, linewidth=1.2, label=f"{text}: mean {value:g}"
        )
    axes.set(
        xlim=(0, end), ylim=(0, 1), xlabel=f"{metric.title}, {metric.unit}", ylabel="share of photographs"
    )
    axes.grid(alpha=0.3)
    plot.legend(fontsize=8, loc="outside right upper")
    return _save(plot, path)


def coefficients(path: Path, found: dict[str, Plausibility]) -> Path:
    """Histograms of all coefficients beside N(0, 1), and the rms of each coefficient."""
    plot = Plot(figsize=(4 * len(found), 6.4), layout="constrained")
    axes = plot.subplots(2, len(found), squeeze=False)
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    for (name, value), above, below in zip(found.items(), axes[0], axes[1], strict=True):
        above.stairs(value.density, EDGES, fill=True, color="steelblue", alpha=0.7, label="network")
        above.plot(middle, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), color="black", label="N(0, 1)")
        above.set(
            title=f"{name}, {PARTS[name]}: rms {value.rms.mean:.2f}", xlabel="standard deviations", yticks=[]
        )
        above.legend(fontsize=8)
        below.bar(np.arange(1, len(value.each_rms) + 1), value.each_rms, color="steelblue", width=0.9)
        below.axhline(1, color="black", linewidth=1)
        below.set(xlabel="coefficient", ylabel="rms over photographs")
    return _save(plot, path)


def group_bars(path: Path, name: str, groups: dict[str, dict[str, Figure]]) -> Path:
    """Means and intervals of one error in all groups, grouping by grouping."""
    metric = METRICS[name]
    rows = [(title, group, f) for title, figures in groups.items() for group, f in figures.items()]
    plot = Plot(figsize=(8, 0.26 * (len(rows) + len(groups)) + 1.2), layout="constrained")
    axes = plot.add_subplot()
    y, ticks, last = 0.0, [], ""
    for title, group, f in rows:
        y += 1.0 + (title != last)
        if title != last:
            axes.text(0, y - 0.95, f" {title}", fontsize=8, weight="bold", va="center")
        last, mean = title, metric.factor * f.mean
        low, high = (metric.factor * v if v == v else mean for v in (f.low, f.high))
        shade = "steelblue" if f.count >= FEWEST else "lightsteelblue"
        axes.barh(y, mean, color=shade, height=0.75)
        axes.plot([low, high], [y, y], color="black", linewidth=1)
        ticks.append((y, f"{group} ({f.count})"))
    axes.set(
        ylim=(y + 0.8, 0),
        xlabel=f"{metric.title}, {metric.unit}: mean and 95 % interval (photographs in brackets)",
    )
    axes.set_yticks([t for t, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    return _save(plot, path)


def heat_map(
    path: Path,
    model: FaceModel,
    values: Float[np.ndarray, "vertices"],
    title: str,
    unit: str,
    limit: float | None = None,
) -> Path:
    """Values of the vertices as colours on the average face, seen from three sides; not-a-numbers are grey."""
    known = np.isfinite(values)
    limit = limit or float(np.quantile(values[known], 0.99)) or 1e-9
    colours, scale = heat_colours(values, limit), matplotlib.colors.Normalize(0, limit)
    plot = Plot(figsize=(10.5, 4.2), layout="constrained")
    axes = plot.subplots(1, len(VIEWS))
    for view, ax in zip(VIEWS, axes, strict=True):
        ax.imshow(_seen_from(model, view, colours))
        ax.axis("off")
    plot.suptitle(f"{title}; mean {values[known].mean():.3g} {unit}", fontsize=10)
    plot.colorbar(matplotlib.cm.ScalarMappable(scale, HEAT), ax=axes, label=unit, shrink=0.85)
    return _save(plot, path)


def heat_colours(values: Float[np.ndarray, "vertices"], limit: float) -> Float[np.ndarray, "vertices 3"]:
    """Colours of values between zero and a limit; grey for what is no number."""
    known = np.isfinite(values)
    colours = matplotlib.colormaps[HEAT](np.clip(np.where(known, values, 0) / limit, 0, 1))[:, :3]
    colours[~known] = 0.75
    return colours


def share_curves(
    path: Path,
    values: dict[str, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]],
    across: str,
    up: str,
    unit: str,
) -> Path:
    """The share of values below each one, a curve for each measure (values, weights); `across` and `up` name the axes."""
    plot = Plot(figsize=(7, 4.6), layout="constrained")
    axes = plot.add_subplot()
    for title, (some, weights) in values.items():
        order = np.argsort(some)
        mean = f"{title} (mean {np.average(some, weights=weights):.3g} {unit})"
        axes.plot(some[order], np.cumsum(weights[order]) / weights.sum(), label=mean)
    end = max(float(np.quantile(some, CURVE_END)) for some, _ in values.values()) or 1e-9
    axes.set(xlim=(0, end), ylim=(0, 1), xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return _save(plot, path)


def learning_curves(path: Path, runs: Sequence[LearningCurves]) -> Path:
    """A panel for each error over iterations, a curve for each run, and published means as dashed lines."""
    names = list(runs[0].errors)
    plot = Plot(figsize=(4.6 * len(names), 4.0), layout="constrained")
    for name, axes in zip(names, plot.subplots(1, len(names), squeeze=False)[0], strict=True):
        metric = METRICS[name]
        for run in runs:
            values = metric.factor * run.errors[name]
            axes.plot(
                run.iterations, values, marker=".", markersize=4, label=f"{run.title}: {values[-1]:.3g}"
            )
        for (text, value), dashes in zip(metric.lines, ("--", ":"), strict=False):
            axes.axhline(
                value, color="firebrick", linestyle=dashes, linewidth=1.2, label=f"{text}: {value:g}"
            )
        axes.set(title=metric.title, xlabel="iterations", ylabel=metric.unit)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return _save(plot, path)


def _seen_from(model: FaceModel, degrees: float, colours: np.ndarray) -> np.ndarray:
    """The average face from a side, without perspective."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x = model.mean_shape.double().cpu().numpy()
    x = (x - (x.max(0) + x.min(0)) / 2) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    k = 0.95 * VIEW_SIZE / np.ptp(x[:, 1])
    uv = x[:, :2] * (k, -k) + VIEW_SIZE / 2
    return surface(uv, 1000 - x[:, 2], model.triangles.cpu().numpy(), colours, VIEW_SIZE, VIEW_SIZE)


def _save(plot: Plot, path: Path) -> Path:
    with written_whole(path) as temporary:
        plot.savefig(temporary, dpi=DPI, format="png")
    return path

"""The evaluation of a network on the held-out part of a corpus, photographs and synthetic faces."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mofaface.autoencoder import Autoencoder
from mofaface.corpus import CorpusSplit
from mofaface.decoder import Decoder
from mofaface.evaluation.bootstrap import Figure, figure
from mofaface.evaluation.groups import figures_of, groupings
from mofaface.evaluation.photographs import BATCH, Measured, Refine, measure
from mofaface.evaluation.plausibility import Plausibility, plausibility
from mofaface.evaluation.published import METRICS
from mofaface.evaluation.result import Draw, Result
from mofaface.evaluation.sheets import colour_errors, sheet_of_cases
from mofaface.evaluation.tables import figures_table, groups_table, plausibility_table
from mofaface.evaluation.truth import TruthErrors, errors_on_truth, same_model, true_codes

BY_GROUP = ("landmark_px", "landmark_box", "photometric")
TRUTH_BY_GROUP = ("geometry_mm",)
SHEETS = ("landmark_px", "photometric")
Values = dict[str, np.ndarray]


def evaluate_corpus(
    autoencoder: Autoencoder,
    corpus: CorpusSplit,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda photos: None,
    refine: Refine | None = None,
) -> Result:
    """Every figure that a split allows: landmarks and colours; geometry, reflectance and light where codes are known.

    Raises ValueError for codes of another face model.
    """
    decoder = autoencoder.decoder
    truth = _truth(corpus, decoder)
    measured = measure(autoencoder, corpus, batch, progress, refine)
    synthetic = None if truth is None else errors_on_truth(decoder, measured.codes, truth)
    values = dict(measured.errors)
    if synthetic is not None:
        values |= {name: _spread(v, synthetic, len(corpus)) for name, v in synthetic.errors.items()}
        colours = measured.errors["photometric"][synthetic.photographs]
        values["truth_photometric"] = _spread(colours, synthetic, len(corpus))
    figures = {name: figure(v, corpus.persons) for name, v in values.items()}
    groups = _groups(corpus, measured, values, BY_GROUP + (TRUTH_BY_GROUP if synthetic else ()))
    likely = plausibility(measured.codes, decoder.model.layout, corpus.persons)
    tables = (
        figures_table(figures, f"{len(corpus)} held-out photographs of {len(set(corpus.persons))} people"),
        *(groups_table(title, of, BY_GROUP) for title, of in groups.items()),
        plausibility_table(likely),
    )
    return Result(
        figures=_plain(figures, groups, likely),
        tables=tables,
        drawings=_drawings(autoencoder, corpus, measured, synthetic, values, groups, likely),
        rows=_rows(corpus, measured, values),
    )


def _truth(corpus: CorpusSplit, decoder: Decoder) -> np.ndarray | None:
    truth, model = true_codes(corpus), decoder.model
    if truth is not None and not same_model(corpus, model):
        assert corpus.code_model is not None
        made_of = "'{name}' version {version}".format(**corpus.code_model)
        raise ValueError(
            f"the corpus' true codes are of face model {made_of}, not of '{model.name}' version {model.version}; "
            "evaluate with the model that the faces were made of"
        )
    return truth


def _groups(
    corpus: CorpusSplit, measured: Measured, values: Values, metrics: tuple[str, ...]
) -> dict[str, dict[str, dict[str, Figure]]]:
    """By title, metric and group."""
    found = {}
    for grouping in groupings(corpus, measured):
        found[grouping.title] = {name: figures_of(grouping, values[name], corpus.persons) for name in metrics}
    return found


def _spread(values: np.ndarray, truth: TruthErrors, count: int) -> np.ndarray:
    """Values of the photographs with a true code, not-a-number for the others."""
    result = np.full(count, np.nan)
    result[truth.photographs] = values
    return result


def _plain(
    figures: dict[str, Figure],
    groups: dict[str, dict[str, dict[str, Figure]]],
    likely: dict[str, Plausibility],
) -> dict[str, Any]:
    return {
        **{name: value.plain() for name, value in figures.items()},
        "groups": {
            title: {m: {g: f.plain() for g, f in of.items()} for m, of in by_metric.items()}
            for title, by_metric in groups.items()
        },
        "plausibility": {name: value.plain() for name, value in likely.items()},
        "published": {name: METRICS[name].published for name in figures if METRICS[name].published},
    }


def _rows(corpus: CorpusSplit, measured: Measured, values: Values) -> tuple[dict[str, Any], ...]:
    numbers = values | measured.traits | {"yaw_deg": np.degrees(corpus.yaw)}
    return tuple(
        {"source": corpus.sources[i], "name": corpus.names[i], "person": corpus.persons[i]}
        | {name: float(v[i]) for name, v in numbers.items()}
        for i in range(len(corpus))
    )


def _drawings(
    autoencoder: Autoencoder,
    corpus: CorpusSplit,
    measured: Measured,
    synthetic: TruthErrors | None,
    values: Values,
    groups: dict[str, dict[str, dict[str, Figure]]],
    likely: dict[str, Plausibility],
) -> dict[str, Draw]:
    """What draws each file; matplotlib is needed only when one is drawn."""
    decoder = autoencoder.decoder
    drawings: dict[str, Draw] = {}

    def curves(name: str, path: Path) -> object:
        from mofaface.evaluation.plots import error_curves

        return error_curves(path, name, _by_source(corpus, values[name]))

    def bars(name: str, path: Path) -> object:
        from mofaface.evaluation.plots import group_bars

        return group_bars(path, name, {title: of[name] for title, of in groups.items()})

    def histograms(path: Path) -> object:
        from mofaface.evaluation.plots import coefficients

        return coefficients(path, likely)

    def heat(what: str, path: Path) -> object:
        from mofaface.evaluation.plots import heat_map

        vertex, title, unit = _vertex_values(what, autoencoder, corpus, measured, synthetic)
        return heat_map(path, decoder.model, vertex, title, unit)

    for name in ("landmark_px", "photometric", *(synthetic.errors if synthetic else ())):
        drawings[f"curve_{name}.png"] = partial(curves, name)
    for name in (BY_GROUP[0], BY_GROUP[-1], *(TRUTH_BY_GROUP if synthetic else ())) if groups else ():
        drawings[f"groups_{name}.png"] = partial(bars, name)
    drawings["coefficients.png"] = histograms
    for what in ("photometric", *(("geometry", "shape") if synthetic else ())):
        drawings[f"mesh_{what}.png"] = partial(heat, what)
    for name in (*SHEETS, *(TRUTH_BY_GROUP if synthetic else ())):
        drawings[f"cases_{name}.png"] = partial(
            sheet_of_cases,
            decoder=decoder,
            corpus=corpus,
            codes=measured.codes,
            values=values[name],
            unit=METRICS[name].unit,
        )
    return drawings


def _vertex_values(
    what: str, autoencoder: Autoencoder, corpus: CorpusSplit, measured: Measured, truth: TruthErrors | None
) -> tuple[np.ndarray, str, str]:
    if what == "photometric":
        colours = colour_errors(autoencoder.decoder, corpus, measured.codes)
        return colours, "RGB distance of each vertex, where it faces the camera", "of 1"
    assert truth is not None
    if what == "geometry":
        return truth.vertex_mm, "distance of each vertex from its true place, rotation kept", "mm"
    return truth.vertex_turned_mm, "distance of each vertex from its true place, rotation removed", "mm"


def _by_source(corpus: CorpusSplit, values: np.ndarray) -> dict[str, np.ndarray]:
    known, source = ~np.isnan(values), np.array(corpus.sources)
    found = {"all": values[known]}
    names = sorted(set(source[known]))
    if len(names) > 1:
        found |= {name: values[known & (source == name)] for name in names}
    return found

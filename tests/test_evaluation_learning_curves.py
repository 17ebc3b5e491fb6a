"""Learning curves: read from a run's log as it is, told beside the paper, drawn together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mofaface.cli import main
from mofaface.evaluation.learning_curves import one_kind, read_curves, supervision
from mofaface.evaluation.on_runs import evaluate_runs
from mofaface.losses import LossWeights
from mofaface.training import TrainConfig
from mofaface.training.config import to_plain


def write_run(folder, land=0.0, geometry=(), photometric=(0.3, 0.2, 0.25), pixels=(20.0, 12.0, 8.0)):
    """A run's folder with validations at 0, 50 and 100, lines of training between them, and a torn last line."""
    folder.mkdir()
    config = replace(TrainConfig(), weights=LossWeights(land=land))
    (folder / "config.json").write_text(json.dumps(to_plain(config)))
    lines = []
    for i, (colour, pixel) in enumerate(zip(photometric, pixels, strict=True)):
        values = {"validation_photometric": colour, "validation_landmark_px": pixel}
        if geometry:
            values["validation_geometry_mm"] = geometry[i]
        lines += [{"iteration": 50 * i, **values}, {"iteration": 50 * i + 20, "loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text + '{"iteration": 150, "valid')
    return folder


def test_curves_are_the_validations_of_the_log(tmp_path):
    curves = read_curves(write_run(tmp_path / "mine"))
    assert curves.title == "mine, unsupervised" and not curves.synthetic
    assert curves.iterations.tolist() == [0, 50, 100]
    assert curves.errors["photometric"].tolist() == [0.3, 0.2, 0.25]
    assert curves.errors["landmark_px"].tolist() == [20.0, 12.0, 8.0]
    assert curves.errors.keys() == {"photometric", "landmark_px"}


def test_rendered_faces_have_a_curve_of_their_geometry_and_other_published_figures(tmp_path):
    curves = read_curves(write_run(tmp_path / "rendered", geometry=(21.0, 9.0, 5.0), land=1.0))
    assert curves.synthetic and curves.title == "rendered, with landmarks"
    assert list(curves.errors) == ["geometry_mm", "truth_photometric", "truth_landmark_px"]
    assert curves.errors["geometry_mm"].tolist() == [21.0, 9.0, 5.0]


def test_table_and_figures_tell_first_best_and_last_beside_the_papers(tmp_path):
    result = evaluate_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", land=1.0)])
    text = result.text()
    assert "a, unsupervised" in text and "b, with landmarks" in text and "5.3 / 4.9 unsupervised" in text
    assert "0.200 at 50" in text and "8.00 at 100" in text
    assert [run["errors"]["landmark_px"][-1] for run in result.figures["runs"]] == [8.0, 8.0]
    json.loads(result.json())


def test_runs_of_two_kinds_and_folders_without_a_run_are_refused(tmp_path):
    real, rendered = (
        write_run(tmp_path / "real"),
        write_run(tmp_path / "rendered", geometry=(3.0, 2.0, 1.0)),
    )
    with pytest.raises(ValueError, match=r"rendered faces \(rendered\) have other errors"):
        one_kind([read_curves(real), read_curves(rendered)])
    with pytest.raises(ValueError, match="holds no log.jsonl; give the folder of a training run"):
        read_curves(tmp_path)
    (real / "log.jsonl").write_text('{"iteration": 20, "loss": 1.0}\n')
    with pytest.raises(ValueError, match="holds no validation yet"):
        read_curves(real)


def test_the_figure_holds_a_panel_an_error_with_curves_and_dashed_lines(tmp_path):
    pytest.importorskip("matplotlib")
    from mofaface.evaluation import plots

    drawn = []
    runs = [read_curves(write_run(tmp_path / name, land=land)) for name, land in (("a", 0.0), ("b", 1.0))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_save", lambda plot, path: drawn.append(plot) or path)
        plots.learning_curves(tmp_path / "curves.png", runs)
    colours, pixels = drawn[0].axes
    assert colours.get_ylabel() == "of 1" and pixels.get_ylabel() == "px at 240"
    solid = [line for line in pixels.lines if line.get_linestyle() == "-"]
    dashed = [line for line in pixels.lines if line.get_linestyle() != "-"]
    assert [line.get_label() for line in solid] == ["a, unsupervised: 8", "b, with landmarks: 8"]
    np.testing.assert_array_equal(solid[0].get_xdata(), [0, 50, 100])
    np.testing.assert_array_equal(solid[0].get_ydata(), [20.0, 12.0, 8.0])
    assert sorted(line.get_ydata()[0] for line in dashed) == [3.4, 4.9]


def test_the_command_writes_figures_and_the_drawing(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "mine", geometry=(21.0, 9.0, 5.0))
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "evaluate",
                "--runs",
                str(run),
                "--report",
                str(tmp_path / "r"),
                "--out",
                str(tmp_path / "f.json"),
            ]
        )
    assert caught.value.code == 0 and "21.6 → 4.5" in capsys.readouterr().out
    assert (tmp_path / "r" / "curves.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "f.json").read_text())["runs"][0]["iterations"] == [0, 50, 100]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainConfig(), "with landmarks"),
        (TrainConfig(weights=LossWeights()), "unsupervised"),
        (TrainConfig(believe_landmarks=False), "unsupervised"),
        (TrainConfig(believe_landmarks=False, rendered=Path("faces")), "with rendered faces' landmarks"),
        (TrainConfig(weights=LossWeights(truth=1)), "with true codes"),
    ],
)
def test_a_run_is_called_by_what_it_learns_from(config, expected):
    assert supervision(config) == expected

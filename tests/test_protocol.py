"""The paper's experiment as one command: it renders, trains and measures, in parts too, and goes on where it stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from little_corpus import TINY
from PIL import Image

from mofaface.cli import main
from mofaface.corpus import load_corpus
from mofaface.losses import LossWeights
from mofaface.protocol import ProtocolConfig, measure_network, rendering, train_network, training
from mofaface.synthetic import MASK_ONLY, PERFECT, Degradation
from mofaface.training import RECIPES, loop
from mofaface.training.config import to_plain

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The paper's recipe with a little network."""
    path = tmp_path_factory.mktemp("recipe") / "little.json"
    little = replace(RECIPES["paper"], encoder=TINY, threads=1, log_every=2)
    path.write_text(json.dumps(to_plain(little)))
    return path


@pytest.fixture(scope="module")
def config(recipe, model_path, tmp_path_factory) -> ProtocolConfig:
    return ProtocolConfig(
        tmp_path_factory.mktemp("protocol") / "little",
        train=24,
        test=8,
        recipe=str(recipe),
        iterations=6,
        validate_every=3,
        model=str(model_path),
    )


def options(config: ProtocolConfig) -> list[str]:
    names = ("out", "train", "test", "recipe", "iterations", "validate_every", "model")
    return [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]


@pytest.fixture(scope="module")
def outcome(config) -> Path:
    """The folder of an experiment that ran as one command."""
    with pytest.raises(SystemExit) as caught:
        main(["protocol", *options(config)])
    assert caught.value.code == 0
    return config.out


def test_the_defaults_are_the_papers(tmp_path):
    config = ProtocolConfig(tmp_path)
    assert rendering(config).n == 105_000 and rendering(config).validation == 5_000
    # Rendered faces before backgrounds, and nothing else in front of them.
    assert rendering(config).surroundings == MASK_ONLY and rendering(config).degradation == PERFECT
    learnt = training(config)
    assert (learnt.encoder.backbone, learnt.batch, learnt.iterations) == ("alexnet", 5, 200_000)
    assert learnt.optimiser == RECIPES["paper"].optimiser and learnt.mesh == "full"
    assert learnt.weights == LossWeights() and learnt.weights.land == 0


def test_options_change_the_recipe_and_the_pictures(tmp_path):
    config = ProtocolConfig(tmp_path, look="varied", iterations=40, batch=2, mesh="coarse", seed=3)
    learnt = training(config)
    assert (learnt.iterations, learnt.batch, learnt.mesh, learnt.seed) == (40, 2, "coarse", 3)
    assert learnt.validate_every == 2  # twenty points
    assert rendering(config).degradation == Degradation() and rendering(config).seed == 3


def test_test_faces_are_other_people_and_the_outcome_stands_beside_the_papers(outcome, config):
    learnt, held_out = load_corpus(config.faces, "train"), load_corpus(config.faces, "validation")
    assert (len(learnt), len(held_out)) == (24, 8) and set(learnt.persons).isdisjoint(held_out.persons)
    told = json.loads((outcome / "protocol.json").read_text())
    assert told["figures"]["geometry_mm"]["published"] == {"start": 21.6, "end": 4.5}
    assert told["figures"]["truth_photometric"]["published"] == {"start": 0.33, "end": 0.05}
    assert told["figures"]["truth_landmark_px"]["published"] == {"start": 31.6, "end": 3.9}
    assert told["training"]["supervision"] == "unsupervised" and told["training"]["iterations"] == 6
    assert (told["faces"]["train"], told["faces"]["test"]) == (24, 8)
    for name, row in told["figures"].items():
        assert row["end"] == told["test"][name]["mean"] and row["start"] > 0
    for name in ("curves.png", "faces.png"):
        with Image.open(outcome / name) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_the_curve_ends_where_the_measurement_of_all_test_faces_ends(outcome):
    """All eight are validated on, so both ways of measuring see the same pictures; float16 weights differ a little."""
    last = json.loads((outcome / "run" / "log.jsonl").read_text().splitlines()[-1])
    figures = json.loads((outcome / "protocol.json").read_text())["figures"]
    assert last["iteration"] == 6
    assert figures["geometry_mm"]["end"] == pytest.approx(last["validation_geometry_mm"], rel=1e-2)
    assert figures["truth_photometric"]["end"] == pytest.approx(last["validation_photometric"], rel=1e-2)
    assert figures["truth_landmark_px"]["end"] == pytest.approx(last["validation_landmark_px"], rel=1e-2)


def test_a_second_call_renders_and_trains_nothing(outcome, config, monkeypatch):
    monkeypatch.setattr("mofaface.synthetic.build.write_shards", None)
    monkeypatch.setattr("mofaface.protocol.train", None)
    before = (outcome / "run" / "weights.safetensors").stat().st_mtime_ns
    with pytest.raises(SystemExit) as caught:
        main(["protocol", *options(config)])
    assert caught.value.code == 0
    assert (outcome / "run" / "weights.safetensors").stat().st_mtime_ns == before


def test_parts_run_elsewhere_and_a_training_goes_on(outcome, config, tmp_path, monkeypatch, capsys):
    elsewhere = replace(config, out=tmp_path / "elsewhere", iterations=6)
    shutil.copytree(config.faces, elsewhere.faces)
    monkeypatch.setattr("mofaface.protocol.build_synthetic", None)
    steps = []
    take = loop.Trainer.step
    monkeypatch.setattr(
        loop.Trainer, "step", lambda self, batch: (steps.append(self.iteration), take(self, batch))
    )
    train_network(replace(elsewhere, iterations=4))
    with pytest.raises(SystemExit) as caught:
        main(["protocol", *options(elsewhere), "--only", "train"])
    assert caught.value.code == 0 and steps == [0, 1, 2, 3, 4, 5]
    assert not (elsewhere.out / "protocol.json").exists()
    for name in ("log.jsonl", "config.json"):
        assert (elsewhere.run_folder / name).is_file()
    measured = measure_network(elsewhere)
    assert measured.figures["training"]["iterations"] == 6
    # A training in two parts is the same training.
    whole = json.loads((outcome / "protocol.json").read_text())
    assert measured.figures["figures"]["geometry_mm"]["end"] == pytest.approx(
        whole["figures"]["geometry_mm"]["end"], rel=1e-6
    )


def test_a_run_that_learnt_otherwise_is_not_gone_on_with(outcome, config):
    with pytest.raises(ValueError, match="another mesh, batch; give the same options"):
        train_network(replace(config, batch=3, mesh="coarse"))


def test_what_is_missing_is_a_sentence(config, corpus_path, tmp_path):
    nothing = replace(config, out=tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no finished pictures; run it with --only render"):
        train_network(nothing)
    with pytest.raises(ValueError, match="holds no trained network; run it with --only train first"):
        measure_network(nothing)
    with pytest.raises(ValueError, match="holds photographs, and the experiment needs faces whose codes"):
        train_network(replace(nothing, corpus=corpus_path))
    with pytest.raises(ValueError, match="--validate-every is at least 1; got 0"):
        replace(config, validate_every=0)

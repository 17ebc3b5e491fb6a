"""Recipes: the paper's numbers, and configurations that survive their files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mofaface.encoders import CodeGains, EncoderConfig
from mofaface.training.config import (
    NO_AUGMENTATION,
    PAPER,
    RECIPES,
    TrainConfig,
    from_plain,
    load_recipe,
    to_plain,
)


def test_paper_recipe_has_the_numbers_of_section_7():
    assert PAPER is RECIPES["paper"]
    assert PAPER.encoder.backbone == "alexnet"
    assert (PAPER.optimiser.name, PAPER.optimiser.rate, PAPER.optimiser.rate_z) == ("adadelta", 0.1, 0.0005)
    assert (PAPER.optimiser.warmup, PAPER.optimiser.cosine, PAPER.optimiser.clip) == (0, False, 0)
    assert PAPER.optimiser.weight_decay == 0 and PAPER.average == 0 and not PAPER.bfloat16
    assert (PAPER.batch, PAPER.iterations) == (5, 200_000)
    assert PAPER.mesh == "full" and PAPER.augmentation == NO_AUGMENTATION
    w = PAPER.weights
    assert (w.land, w.photo, w.reg, w.beta, w.delta, w.light) == (0, 1.92, 2.9e-5, 1.7e-3, 0.8, 0)


ODD = TrainConfig(
    corpus=Path("some where"),
    pretrained=Path("a.pth"),
    encoder=EncoderConfig("vgg", gains=CodeGains(alpha=0.5)),
    weights=replace(PAPER.weights, land=1.0),
    bfloat16=True,
)


@pytest.mark.parametrize("config", [*RECIPES.values(), ODD])
def test_configuration_comes_back_from_json(config, tmp_path):
    plain = json.loads(json.dumps(to_plain(config)))
    assert from_plain(TrainConfig, plain) == config
    (tmp_path / "config.json").write_text(json.dumps(plain))
    assert load_recipe(str(tmp_path / "config.json")) == config


def test_file_with_some_fields_leaves_the_others_at_the_default(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"batch": 8, "optimiser": {"rate": 0.01}}')
    recipe = load_recipe(str(path))
    assert recipe.batch == 8 and recipe.optimiser.rate == 0.01
    assert recipe.iterations == TrainConfig().iterations and recipe.optimiser.name == "adamw"


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"bach": 5}', "TrainConfig has no field bach"),
        ('{"optimiser": {"speed": 5}}', "OptimiserConfig has no field speed"),
        ('{"weights": {"land": -1}}', "weight land must be a finite number"),
        ("{", "is not a training configuration"),
        ('{"optimiser": 5}', "is not a training configuration"),
        ("[1, 2]", "is not a training configuration"),
    ],
)
def test_file_that_is_no_recipe_is_a_sentence(tmp_path, text, says):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(ValueError, match="default or paper or a JSON file, and 'fastest' is neither"):
        load_recipe("fastest")

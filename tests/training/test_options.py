"""The options of `mofaface train`."""

import json
from pathlib import Path

import pytest

from mofaface.training.config import PAPER, TrainConfig, to_plain
from mofaface.training.options import parse_training


def test_without_options_the_default_recipe_is_trained():
    assert parse_training([]) == (TrainConfig(), False, False)


def test_recipe_comes_first_and_options_change_it():
    arguments = "--recipe paper --batch 7 --weights.land 1 --corpus here --encoder.backbone vgg".split()
    config, resume, _ = parse_training(arguments)
    assert not resume and config.batch == 7 and config.weights.land == 1 and config.corpus == Path("here")
    assert config.encoder.backbone == "vgg" and config.optimiser == PAPER.optimiser


def test_resume_takes_the_configuration_of_the_run_and_its_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_plain(TrainConfig(batch=9, out=Path("moved/away")))))
    config, resume, dry = parse_training(["--resume", str(tmp_path), "--iterations", "12", "--dry-run"])
    assert dry
    assert resume and config.batch == 9 and config.iterations == 12 and config.out == tmp_path


def test_resume_of_a_folder_without_a_run_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="is neither"):
        parse_training(["--resume", str(tmp_path)])


def test_unknown_option_ends_the_command(capsys):
    with pytest.raises(SystemExit):
        parse_training(["--speed", "9"])
    assert "speed" in capsys.readouterr().err

"""A run that is only tried."""

import json
import re
from dataclasses import replace

import pytest
import torch
from little_corpus import TINY, little_config

from mofaface.cli import main
from mofaface.corpus import CorpusError
from mofaface.training import dry_run, train
from mofaface.training.config import to_plain
from mofaface.training.rehearsal import FIRST, MEASURED, check_writable
from mofaface.training.trainer import Trainer, TrainingError


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)


@pytest.fixture
def config(corpus_path, model_path, tmp_path):
    return little_config(
        corpus_path,
        model_path,
        tmp_path / "deep" / "run",
        batch=4,
        iterations=2000,
        validate_photos=4,
    )


def test_it_tells_what_a_run_will_take_and_writes_nothing(config, tmp_path, monkeypatch):
    taken = []
    take = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, given: taken.append(given) or take(self, given))
    before = sorted(tmp_path.rglob("*"))
    told = dry_run(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(taken) == FIRST + MEASURED
    assert "photographs: 20 of 20 persons" in told and "held out: 4 of 4 persons" in told
    assert "iterations: 2000 to go of 2000, 4 photographs each" in told
    assert "each of 6 validations" in told  # at 0, 50, 500, 1000, 1500, 2000
    found = re.search(r"about (\d+):(\d\d):(\d\d); an iteration ([\d.e-]+) s", told)
    assert found is not None
    hours, minutes, seconds, step = (float(part) for part in found.groups())
    assert 0.9 * 2000 * step < 3600 * hours + 60 * minutes + seconds < 1.1 * 2000 * step + 60
    assert "MB are free" in told and told.endswith("nothing was written")


def test_it_tells_how_large_a_checkpoint_is(config):
    (size,) = re.findall(r"a checkpoint takes (\d+) MB", dry_run(config))
    train(replace(config, iterations=1))
    assert float(size) == pytest.approx(
        (config.out / "checkpoint.safetensors").stat().st_size / 1e6, rel=0.03
    )


def test_it_goes_on_from_a_checkpoint_and_leaves_it_as_it_is(config):
    short = replace(config, iterations=3)
    train(short)
    before = {path: path.read_bytes() for path in config.out.iterdir()}
    with pytest.raises(ValueError, match="holds a run; go on with --resume"):
        dry_run(short)
    assert "iterations: 7 to go of 10" in dry_run(replace(config, iterations=10), resume=True)
    assert {path: path.read_bytes() for path in config.out.iterdir()} == before


def test_what_a_run_would_raise_it_raises(config, tmp_path):
    with pytest.raises(CorpusError, match="corpus build"):
        dry_run(replace(config, corpus=tmp_path))
    with pytest.raises(ValueError, match="fixed layers need pretrained weights"):
        dry_run(replace(config, encoder=replace(TINY, freeze_norm=True)))


def test_a_loss_that_is_no_number_is_said(config, monkeypatch):
    monkeypatch.setattr("mofaface.training.step.total", lambda *_: torch.tensor(float("nan")))
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    with pytest.raises(TrainingError, match="none of the first 8 iterations gave a finite gradient"):
        dry_run(config)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file is no folder that can be written to; give another --out"):
        check_writable(tmp_path / "file" / "run")
    monkeypatch.setattr("mofaface.training.rehearsal.os.access", lambda *_: False)
    with pytest.raises(OSError, match="change its rights"):
        check_writable(tmp_path / "run")


def test_too_little_room_is_said(config, monkeypatch):
    monkeypatch.setattr("mofaface.training.rehearsal.free_space", lambda path: 1_000_000)
    assert "1 MB are free: too little, free some or give another --out" in dry_run(config)


def test_the_command_line_tries_a_run(config, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(to_plain(config)))
    with pytest.raises(SystemExit) as ended:
        main(["train", "--recipe", str(recipe), "--dry-run", "--batch", "2"])
    assert ended.value.code == 0
    assert "2 photographs each" in capsys.readouterr().out
    assert not config.out.parent.exists()

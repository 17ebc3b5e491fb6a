"""A run that is killed at any moment goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from little_corpus import TINY

from mofaface.training import train
from mofaface.training.config import OptimiserConfig, TrainConfig, to_plain
from mofaface.weights import read_tensors

TESTS = Path(__file__).parents[1]
FIRST_LINE = 5  # iteration


@pytest.fixture
def config(corpus_path, model_path, tmp_path):
    return TrainConfig(
        corpus=corpus_path,
        out=tmp_path / "killed",
        model=str(model_path),
        encoder=TINY,
        optimiser=OptimiserConfig(warmup=2),
        weights=replace(TrainConfig().weights, refined=1.0),
        batch=4,
        iterations=30,
        average=0.9,
        log_every=FIRST_LINE,
        validate_every=12,
        validate_first=3,
        validate_photos=4,
        checkpoint_every=7,
        threads=1,
    )


def start(*command):
    paths = os.pathsep.join((str(TESTS.parent / "src"), str(TESTS)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *map(str, command)], env=environment)


def lines(config):
    """The log, but for how fast it went."""
    entries = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    return [{name: v for name, v in entry.items() if name != "photos_per_second"} for entry in entries]


def checkpoint(config):
    tensors, metadata = read_tensors(config.out / "checkpoint.safetensors", "mofaface-checkpoint")
    values = json.loads(metadata["values"])
    return tensors, {name: value for name, value in values.items() if name != "config"}


def weights(config):
    # Not the file's bytes: safetensors writes its metadata in another order each time.
    return read_tensors(config.out / "weights.safetensors", "mofaface-weights")


def test_a_run_that_is_killed_four_times_ends_as_an_unbroken_one_bit_for_bit(config, tmp_path):
    whole = replace(config, out=tmp_path / "whole")
    train(whole)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(to_plain(config)))

    # Before its first checkpoint, in the middle of the line of the log.
    assert start("training.killed_run", "log", 3, "--recipe", recipe).wait(120) == -signal.SIGKILL
    assert not (config.out / "checkpoint.safetensors").exists()

    # From outside, whatever it is doing.
    run = start("mofaface", "train", "--resume", config.out)
    while not (config.out / "checkpoint.safetensors").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    assert run.wait(120) == -signal.SIGKILL
    kept = checkpoint(config)[1]["iteration"]
    assert 0 < kept < config.iterations and kept % 7 == 0

    # In the middle of writing its next checkpoint, and of the weights that follow another one.
    for file in ("checkpoint", "weights"):
        command = ("training.killed_run", file, 1, "--resume", config.out)
        assert start(*command).wait(120) == -signal.SIGKILL
        assert list(config.out.glob(f".{file}.*.partial"))
        assert checkpoint(config)[1]["iteration"] == kept + 7 * (file == "weights")

    train(config, resume=True)
    for read in (weights, checkpoint):
        (ours, values), (theirs, others) = read(config), read(whole)
        assert values == others and ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    for picture in ("faces-000012.png", "faces-000030.png"):
        assert (config.out / picture).read_bytes() == (whole.out / picture).read_bytes()
    assert lines(config) == lines(whole)
    assert not list(config.out.glob(".*"))

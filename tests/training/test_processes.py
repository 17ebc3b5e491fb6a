"""Two processes learn what one learns from the same batches."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from little_corpus import TINY

from mofaface.training import train
from mofaface.training.batches import batches
from mofaface.training.config import PAPER, Augmentation, OptimiserConfig, to_plain
from mofaface.training.processes import Processes
from mofaface.weights import read_tensors
from training.claims_of_processes import CLAIMS

TESTS = Path(__file__).parents[1]


def torchrun(*arguments):
    """What two processes print, and their exit code."""
    paths = os.pathsep.join((str(TESTS.parent / "src"), str(TESTS)))
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    ended = subprocess.run(
        [*command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def said():
    return torchrun("training.claims_of_processes")[1]


@pytest.mark.parametrize("claim", [claim.__name__ for claim in CLAIMS])
def test_both_processes_prove(said, claim):
    assert all(f"{claim} in {rank}" in said for rank in range(2)), said


def test_a_batch_that_cannot_be_shared_is_refused():
    assert [Processes(rank, 3).part(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(
        ValueError, match="a batch of 5 .* 2 processes; give a --batch that is a multiple of 2"
    ):
        Processes(0, 2).part(5)


def test_parts_of_a_batch_are_the_batch(corpus_path):
    from mofaface.corpus import load_corpus

    corpus = load_corpus(corpus_path, "train")
    (whole,) = batches(corpus, 6, Augmentation(), 3, 1, 2)
    parts = [next(batches(corpus, 6, Augmentation(), 3, 1, 2, Processes(r, 3).part(6))) for r in range(3)]
    for name, tensor in vars(whole).items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), tensor)


@pytest.fixture(scope="module")
def config(corpus_path, model_path, weights_path, tmp_path_factory):
    # Batch statistics of a new network make rounding large; claims_of_processes.py has those.
    return replace(
        PAPER,
        corpus=corpus_path,
        model=str(model_path),
        out=tmp_path_factory.mktemp("processes") / "one",
        encoder=replace(TINY, freeze_norm=True),
        weights=replace(PAPER.weights, refined=1.0),
        start=str(weights_path),
        optimiser=OptimiserConfig("adadelta", 0.1, 0.1, weight_decay=0, warmup=0, cosine=False, clip=1),
        augmentation=Augmentation(),
        mesh="coarse",
        batch=6,
        iterations=6,
        average=0.9,
        log_every=1,
        validate_photos=4,
        validate_first=2,
        checkpoint_every=2,
        threads=1,
    )


def test_a_run_of_two_processes_is_the_run_of_one_also_when_resumed(config, tmp_path):
    train(config)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(to_plain(replace(config, out=tmp_path / "two", iterations=3))))
    code, told = torchrun("mofaface", "train", "--recipe", recipe)
    assert code == 0, told
    assert told.count("validation_landmark_px") == 3  # before, early and after: by one of the two
    assert told.count("wrote ") == 1
    code, told = torchrun("mofaface", "train", "--resume", tmp_path / "two", "--iterations", 6)
    assert code == 0, told
    logs = [
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (config.out, tmp_path / "two")
    ]
    losses = [{line["iteration"]: line["loss"] for line in log if "loss" in line} for log in logs]
    assert losses[0].keys() == losses[1].keys() == set(range(1, 7))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (
        read_tensors(out / "checkpoint.safetensors", "mofaface-checkpoint")[0]
        for out in (config.out, tmp_path / "two")
    )
    assert one.keys() == two.keys()
    for name in (name for name in one if not name.startswith("optimiser")):
        torch.testing.assert_close(
            two[name], one[name], rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_a_batch_that_two_processes_cannot_share_ends_the_command(config, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(to_plain(replace(config, out=tmp_path / "odd", batch=5))))
    code, told = torchrun("mofaface", "train", "--recipe", recipe)
    assert code and "a batch of 5 photographs cannot be shared evenly by 2 processes" in told
    assert not (tmp_path / "odd").exists()

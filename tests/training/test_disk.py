"""A full disk: the run waits, tells, goes on, and can be ended."""

import errno
import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from little_corpus import little_config
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mofaface.files import write_text_whole
from mofaface.pictures import save_picture
from mofaface.training import disk, train
from mofaface.training.disk import Patience, append_whole, is_full
from mofaface.training.monitor import Monitor

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)


@pytest.fixture
def config(corpus_path, model_path, tmp_path):
    return little_config(
        corpus_path,
        model_path,
        tmp_path / "run",
        batch=2,
        iterations=4,
        log_every=1,
        validate_photos=2,
        checkpoint_every=2,
    )


class Half:
    """A file whose disk takes half of what is written and is full then."""

    def __init__(self, file):
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._file.write(data[: len(data) // 2])
        raise FULL


def fails_first(times, work, fails):
    """`work`, which `fails` replaces at first."""
    left = iter(range(times))
    return lambda *given, **named: (work if next(left, None) is None else fails)(*given, **named)


def refuse(*_, **__):
    raise FULL


def safetensors_refuses(tensors, path, metadata):
    path.write_bytes(b"half of them")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.fixture
def nearly_full(monkeypatch):
    """Every kind of file finds the disk full three times."""

    def half(path, mode, buffering):
        return Half(open(path, mode, buffering=buffering))

    def place(name, work, fails):
        monkeypatch.setattr(name, fails_first(3, work, fails), raising=False)

    def fill(*kinds):
        places = {
            "log": ("mofaface.training.disk.open", open, half),
            "tensors": ("mofaface.weights.save_file", save_file, safetensors_refuses),
            "text": ("mofaface.training.monitor.write_text_whole", write_text_whole, refuse),
            "picture": ("mofaface.training.monitor.save_picture", save_picture, refuse),
        }
        for kind in kinds:
            place(*places[kind])

    return fill


def test_a_run_waits_for_room_and_is_the_run_that_it_would_have_been(
    config, nearly_full, caplog, monkeypatch
):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)
    whole = replace(config, out=config.out.with_name("whole"))
    train(whole)
    nearly_full("log", "tensors", "text", "picture")
    with caplog.at_level(logging.WARNING, "mofaface"):
        train(config)
    told = [record.getMessage() for record in caplog.records if "disk is full" in record.getMessage()]
    files = ("run.json", "log.jsonl", "faces-000000.png", "checkpoint.safetensors")
    assert len(told) == len(files)  # each once, though it was tried three times
    for sentence, file in zip(told, files, strict=True):
        assert f"{config.out / file} could not be written" in sentence and "MB are free" in sentence
        assert "free some space and it goes on by itself" in sentence
        assert f"{config.out / file} is written; the run goes on" in caplog.text
    for name in ("weights.safetensors", "checkpoint.safetensors"):
        ours, theirs = (load_file(run.out / name) for run in (config, whole))
        assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)
    lines = (config.out / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1, 2, 3, 4, 4]
    assert sorted(p.name for p in config.out.iterdir()) == sorted(p.name for p in whole.out.iterdir())


def test_tensorboards_file_waits_too_and_stays_readable(config, nearly_full, caplog):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monitor = Monitor(config)
    monitor.line(1, loss=1.0)
    curves = monitor._curves.path
    nearly_full("log")
    with caplog.at_level(logging.WARNING, "mofaface"):
        monitor.picture(1, "faces", np.zeros((4, 5, 3), np.uint8))
        monitor.line(2, loss=2.0)
    assert f"{curves} could not be written" in caplog.text
    found = accumulator.EventAccumulator(str(curves)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 1.0), (2, 2.0)]
    assert len(found.Images("faces")) == 1


def test_ctrl_c_ends_a_waiting_run_and_keeps_its_last_checkpoint(config, monkeypatch, caplog):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)
    train(replace(config, iterations=2, validate_photos=2))
    kept = (config.out / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr("mofaface.weights.save_file", safetensors_refuses)
    monkeypatch.setattr(disk, "RETRY_SECONDS", 30.0)

    def press(seconds):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(disk.time, "sleep", press)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING, "mofaface"):
        train(config, resume=True)
    assert "--resume goes on from its last checkpoint" in caplog.text
    assert (config.out / "checkpoint.safetensors").read_bytes() == kept
    assert not list(config.out.glob(".*"))


def test_what_else_is_wrong_with_a_disk_is_said_at_once():
    def forbidden():
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        Patience(lambda: False)(Path("file"), forbidden)
    assert not is_full(PermissionError(errno.EACCES, "Permission denied")) and not is_full(None)
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded")) and is_full(FULL)


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "log"
    append_whole(path, b"one\n")
    monkeypatch.setattr(disk, "open", lambda *_, **__: Half(open(path, "ab", buffering=0)), raising=False)
    with pytest.raises(OSError, match="No space"):
        append_whole(path, b"two and more\n")
    assert path.read_bytes() == b"one\n"

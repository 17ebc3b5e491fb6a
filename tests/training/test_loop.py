"""Training: it learns, resumes exactly, survives NaN, and says what it does."""

import json
import logging
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from little_corpus import TINY, corpus_in_memory, little_config
from safetensors.torch import load_file

from mofaface.corpus import load_corpus
from mofaface.corpus.sample import Sample
from mofaface.corpus.shards import read_shard, write_shard
from mofaface.encoders import WeightsError
from mofaface.face_models.container import read_face_model
from mofaface.losses import LossWeights
from mofaface.training import config as configs
from mofaface.training import train
from mofaface.training.batches import Batch, chosen, make_batch
from mofaface.training.config import NO_AUGMENTATION, OptimiserConfig
from mofaface.training.device_corpus import draws
from mofaface.training.loop import stream
from mofaface.training.trainer import MOST_SKIPPED, Trainer, TrainingError
from mofaface.weights import read_autoencoder, read_tensors


@pytest.fixture
def config(corpus_path, model_path, tmp_path):
    return little_config(
        corpus_path,
        model_path,
        tmp_path / "run",
        batch=4,
        iterations=6,
        average=0.9,
        log_every=3,
        validate_every=6,
        validate_photos=4,
        checkpoint_every=100,
    )


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    monkeypatch.setattr("mofaface.training.monitor._tensorboard", lambda folder: None)


@pytest.fixture(scope="module")
def eight():
    return make_batch(corpus_in_memory(8), list(range(8)), NO_AUGMENTATION, [0])


def lines(config):
    return [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]


def without_speed(entries):
    return [{name: v for name, v in entry.items() if name != "photos_per_second"} for entry in entries]


class Stopped(Exception):
    """Stands for whatever ends a run early."""


def step(trainer, batch):
    """One iteration and what it says of itself."""
    trainer.step(batch)
    return trainer.tally.means()


def stop_after(monkeypatch, iterations):
    take = Trainer.step

    def limited(self, batch):
        if self.iteration == iterations:
            raise Stopped
        return take(self, batch)

    monkeypatch.setattr(Trainer, "step", limited)


@pytest.mark.parametrize("on_device", ["auto", "yes"])
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(config, tmp_path, monkeypatch, on_device):
    config = replace(config, corpus_on_device=on_device)
    train(config)
    broken = replace(config, out=tmp_path / "broken", checkpoint_every=3)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 3)
        train(broken)
    train(broken, resume=True)
    assert without_speed(lines(broken)) == without_speed(lines(config))
    for file in ("weights", "checkpoint"):
        format_name = f"mofaface-{file}"
        a, b = (read_tensors(run.out / f"{file}.safetensors", format_name)[0] for run in (config, broken))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_corpus_on_the_device_gives_the_same_run(config):
    runs = [replace(config, out=config.out / name, corpus_on_device=name) for name in ("no", "yes")]
    for run in runs:
        train(run)
    streamed, kept = (without_speed(lines(run)) for run in runs)
    assert [entry.keys() for entry in streamed] == [entry.keys() for entry in kept]
    for a, b in zip(streamed, kept, strict=True):
        assert b == pytest.approx(a, rel=0.05)
    assert streamed != kept  # OpenCV rounds, so both were not the same code


def test_run_explains_itself(config, model_path, capsys):
    path = train(config)
    assert re.search(r"loss \d+\.\d+ .* 6/6 0:00:00", capsys.readouterr().out)  # the bar and the time left
    assert configs.load_recipe(str(config.out / "config.json")) == config
    assert set(json.loads((config.out / "run.json").read_text())) == {"mofaface", "commit"}
    entries = lines(config)
    assert [entry["iteration"] for entry in entries] == [0, 3, 6, 6]
    assert {"validation_landmark_px", "validation_photometric"} <= entries[0].keys()
    assert {"loss", "photo", "land", "landmark_px", "photos_per_second"} <= entries[1].keys()
    assert sorted(p.name for p in config.out.glob("faces-*.png")) == ["faces-000000.png", "faces-000006.png"]
    assert not list(config.out.glob("*.partial"))
    model = read_face_model(model_path)
    code, _ = read_autoencoder(path, model)(torch.rand(1, 3, 240, 240))
    assert model.layout.pack(code).any()


def test_checkpoint_holds_no_face_model_data(config):
    trainer = Trainer(config)
    config.out.mkdir()
    trainer.save()
    tensors, metadata = read_tensors(config.out / "checkpoint.safetensors", "mofaface-checkpoint")
    assert {name.split("/")[0] for name in tensors} == {"encoder", "average"}
    assert json.loads(metadata["values"])["iteration"] == 0
    assert not any(
        tensor.shape == trainer.autoencoder.decoder.model.mean_shape.shape for tensor in tensors.values()
    )


def test_network_overfits_eight_faces(config, eight):
    optimiser = OptimiserConfig(rate=2e-3, rate_z=2e-3, warmup=5, cosine=False)
    trainer = Trainer(replace(config, optimiser=optimiser, iterations=40))
    terms = [step(trainer, eight) for _ in range(40)]
    first, last = terms[0], terms[-1]
    assert last["loss"] < 0.5 * first["loss"]
    assert last["landmark_px"] < 0.5 * first["landmark_px"]
    assert last["photo"] < 0.8 * first["photo"]


def test_unsupervised_training_needs_no_landmarks(config, eight):
    trainer = Trainer(
        replace(config, weights=LossWeights(), iterations=25, optimiser=OptimiserConfig(warmup=2))
    )
    other = replace(eight, landmarks=torch.full_like(eight.landmarks, 1e4))
    terms = [step(trainer, other) for _ in range(25)]
    assert terms[-1]["photo"] < 0.8 * terms[0]["photo"]


def everything(trainer):
    return {
        k: v.clone()
        for part, module in trainer.parts.items()
        for k, v in module.state_dict(prefix=part).items()
    }


def poisoned(batch, where):
    image = batch.image.clone()
    if where == "image":
        image[1, 0, 100:140, 100:140] = float("nan")
        return replace(batch, image=image)
    return replace(batch, landmarks=torch.full_like(batch.landmarks, float("nan")))


@pytest.mark.parametrize("where", ["image", "landmarks"])
def test_batch_with_nan_is_skipped_and_changes_nothing(config, eight, where, caplog):
    trainer = Trainer(config)
    trainer.step(eight)
    before = everything(trainer)
    with caplog.at_level(logging.WARNING, "mofaface"):
        trainer.step(poisoned(eight, where))
    assert "skipped" in caplog.text and trainer.iteration == 2
    after = everything(trainer)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    trainer.step(eight)
    assert all(torch.isfinite(tensor).all() for tensor in everything(trainer).values())


def test_nan_twenty_times_in_a_row_ends_the_run_with_advice(config, eight):
    trainer = Trainer(config)
    bad = poisoned(eight, "landmarks")
    for _ in range(MOST_SKIPPED - 1):
        trainer.step(bad)
    with pytest.raises(TrainingError, match="lower the learning rate .* and resume"):
        trainer.step(bad)
    assert MOST_SKIPPED == 20


def test_one_good_batch_forgives_the_bad_ones(config, eight):
    trainer = Trainer(config)
    bad = poisoned(eight, "landmarks")
    for batch in [bad] * (MOST_SKIPPED - 1) + [eight] + [bad] * (MOST_SKIPPED - 1):
        trainer.step(batch)
    with pytest.raises(TrainingError):
        trainer.step(bad)


def test_log_of_a_run_with_nan_is_still_json(config, monkeypatch):
    take = Trainer.step

    def sometimes(self, batch):
        return take(self, poisoned(batch, "landmarks") if self.iteration == 1 else batch)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    monkeypatch.setattr(Trainer, "step", sometimes)
    train(config)
    for line in (config.out / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_checkpoint_of_another_encoder_is_refused_with_a_sentence(config):
    config.out.mkdir()
    Trainer(config).save()
    other = replace(config, encoder=replace(TINY, input_size=64))
    with pytest.raises(WeightsError, match="belongs to a run with another configuration"):
        train(other, resume=True)


def test_resuming_what_never_began_is_refused_with_a_sentence(config):
    with pytest.raises(WeightsError, match="there is no file"):
        train(config, resume=True)
    assert not config.out.exists()


def test_interrupted_run_ends_its_iteration_and_resumes_exactly(config, monkeypatch):
    take = Trainer.step

    def interrupted(self, batch):
        if self.iteration == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, batch)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(Trainer, "step", take)
    trainer = Trainer(config)
    trainer.resume()
    assert trainer.iteration == 2
    train(config, resume=True)
    whole = replace(config, out=config.out.with_name("whole"))
    train(whole)
    files = [load_file(c.out / "weights.safetensors") for c in (config, whole)]
    assert all(torch.equal(files[0][name], tensor) for name, tensor in files[1].items())


def test_average_lags_behind_the_network_and_is_what_is_saved(config, eight):
    trainer = Trainer(config)
    for _ in range(3):
        trainer.step(eight)
    name = "head.every.bias"
    now = trainer.autoencoder.encoder.state_dict()[name]
    averaged = trainer.best.encoder.state_dict()[name]
    assert averaged.abs().sum() < now.abs().sum()
    plain = Trainer(replace(config, average=0.0))
    assert plain.best.encoder is plain.autoencoder.encoder


def test_coarse_mesh_is_the_quarter_of_the_full_one(config):
    coarse, full = (
        Trainer(replace(config, mesh=mesh)).autoencoder.decoder.model.vertices for mesh in ("coarse", "full")
    )
    assert (coarse, full) == (81, 289)


def test_paper_recipe_steps(config, eight):
    paper = replace(configs.PAPER, encoder=TINY, model=config.model, out=config.out, threads=1)
    trainer = Trainer(paper)
    before = everything(trainer)
    five = Batch(**{name: tensor[:5] for name, tensor in vars(eight).items()})
    terms = [step(trainer, five) for _ in range(3)]
    assert all(1.92 * entry["photo"] <= entry["loss"] < 1.92 * entry["photo"] + 0.01 for entry in terms)
    assert all(
        (everything(trainer)[f"encoderhead.{part}.bias"] != before[f"encoderhead.{part}.bias"]).any()
        for part in ("z", "every")
    )
    assert sorted({group["lr"] for group in trainer.optimiser.param_groups}) == [0.0005, 0.1]


def test_second_run_does_not_overwrite_the_first(config):
    train(replace(config, iterations=1))
    with pytest.raises(ValueError, match="holds a run; go on with --resume"):
        train(config)


def test_fixed_layers_without_pretrained_weights_are_refused(config):
    fixed = replace(config, encoder=replace(TINY, freeze_norm=True))
    with pytest.raises(ValueError, match="give --pretrained FILE"):
        Trainer(fixed)
    Trainer(fixed, fresh=False)  # a resumed run has its own weights


def test_contour_without_landmarks_is_refused():
    with pytest.raises(ValueError, match="set contour to 0 too"):
        LossWeights(land=0, contour=0.3)


def test_vertices_above_the_given_height_are_not_compared(config):
    heights = read_face_model(Path(config.model)).mean_shape[:, 1]
    top = heights.median().item()
    low = Trainer(replace(config, compare_below=top, mesh="full")).autoencoder.decoder.model.frontal
    assert torch.equal(low, heights <= top)


def test_a_run_starts_from_trained_weights(config, caplog):
    path = train(config)
    started = Trainer(replace(config, out=config.out.with_name("second"), start=str(path)))
    kept = load_file(path)
    for name, tensor in started.autoencoder.encoder.state_dict().items():
        torch.testing.assert_close(tensor.float(), kept[name].float(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="--pretrained or from --start"):
        Trainer(replace(config, start=str(path), pretrained=Path("other")))


def test_a_run_validates_early(config):
    train(replace(config, validate_first=2))
    validated = [line["iteration"] for line in lines(config) if "validation_landmark_px" in line]
    assert validated == [0, 2, 6]
    assert (config.out / "faces-000002.png").is_file()


def test_a_run_killed_before_its_first_checkpoint_begins_again(config, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 3)
        train(config)
    train(config, resume=True)
    whole = replace(config, out=config.out.with_name("whole"))
    train(whole)
    assert without_speed(lines(config)) == without_speed(lines(whole))


def test_a_resumed_log_goes_on_where_it_was(config, monkeypatch):
    # The checkpoint falls between two lines of the log.
    train(config)
    broken = replace(config, out=config.out.with_name("broken"), checkpoint_every=2)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        train(broken)
    train(broken, resume=True)
    assert without_speed(lines(broken)) == without_speed(lines(config))


@pytest.fixture
def spoilt(config, tmp_path):
    """The run on a corpus with a crop that is no picture, and another whose metadata are broken."""
    corpus = tmp_path / "spoilt"
    shutil.copytree(config.corpus, corpus)
    shard = corpus / "train-000000.tar"
    samples = [Sample(meta["key"], meta, jpeg) for jpeg, meta in read_shard(shard)]
    samples[4] = replace(samples[4], jpeg=b"no picture")
    write_shard(shard, samples)
    shard.write_bytes(shard.read_bytes().replace(b'"key": "train-7"', b'"key"; "train-7"'))
    return replace(config, corpus=corpus)


@pytest.mark.parametrize("on_device", ["auto", "yes"])
def test_a_run_goes_on_around_damage_and_tells_it_once(spoilt, on_device, caplog):
    with caplog.at_level(logging.WARNING, "mofaface"):
        train(replace(spoilt, corpus_on_device=on_device, iterations=12, batch=5))
    told = [r.getMessage() for r in caplog.records if "corpus build" in r.getMessage()]
    assert len(told) == 2
    assert "train-000000.tar is damaged: 1 of its 20 crops are lost and left out" in told[0]
    assert "the crop train-4 is damaged: another one is taken in its place" in told[1]
    assert all(entry["loss"] > 0 for entry in lines(spoilt) if "loss" in entry)


def test_replaced_crops_are_the_same_on_the_device(spoilt):
    corpus = load_corpus(spoilt.corpus, "train", skip_damaged=True)
    trainer = Trainer(replace(spoilt, corpus_on_device="yes", augmentation=NO_AUGMENTATION))
    (draw,) = stream(trainer, corpus, 1)
    kept = trainer.corpus.batch(next(draws(19, 19, NO_AUGMENTATION, 0, 0, 1)))
    order = chosen(19, 19, 0, 0)
    streamed = make_batch(corpus, order, NO_AUGMENTATION, [0])
    assert torch.equal(kept.image, streamed.image) and torch.equal(kept.landmarks, streamed.landmarks)
    assert torch.equal(kept.image[order.index(4)], kept.image[order.index(5)])

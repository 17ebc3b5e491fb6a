"""A synthetic corpus is a corpus: it goes on after an interruption, is the same however it was made, and is read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pool_work import needs_ray

from mofaface.cli import main
from mofaface.corpus import CorpusError, load_corpus
from mofaface.corpus import build as corpus_build
from mofaface.face_models import load_face_model
from mofaface.synthetic import Degradation, Pose, SynthConfig, build_synthetic
from mofaface.synthetic import build as synthetic_build
from mofaface.synthetic.codes import CodeSampler


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("backgrounds")
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def config(backgrounds, tmp_path_factory) -> SynthConfig:
    out = tmp_path_factory.mktemp("synth") / "synth"
    return SynthConfig(out, n=7, validation=2, shard_size=3, backgrounds=(backgrounds,))


@pytest.fixture(scope="module")
def corpus(config) -> Path:
    build_synthetic(config)
    return config.out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_the_last_pictures_are_held_out(corpus):
    train, validation = load_corpus(corpus, "train"), load_corpus(corpus, "validation")
    assert len(train) == 5 and validation.keys == ("synthetic-0000005", "synthetic-0000006")
    assert set(train.persons).isdisjoint(validation.persons) and set(train.sources) == {"synthetic"}
    assert train.image(0).shape == (240, 240, 3) and train.landmarks.shape == (5, 68, 2)
    assert json.loads((corpus / "corpus.json").read_text())["counts"]["crops"] == {
        "train": 5,
        "validation": 2,
    }


def test_codes_come_back_to_the_last_bit(corpus, config):
    model = load_face_model()
    sampler = CodeSampler(config, model)
    split = load_corpus(corpus, "validation")
    assert split.codes is not None and split.codes.dtype == np.float32 and split.code_model is not None
    assert split.code_model["digest"] == model.digest
    for row, i in zip(split.codes, (5, 6), strict=True):
        np.testing.assert_array_equal(row, model.layout.pack(sampler(i, i)[0])[0].numpy())
    assert split.cameras is not None and split.cameras[0].focal == 1000.0


def test_photographs_have_no_codes(corpus_path):
    split = load_corpus(corpus_path, "train")
    assert split.codes is None and split.cameras is None and split.code_model is None


def test_an_interrupted_run_goes_on_and_ends_the_same(corpus, config, tmp_path, monkeypatch):
    wanted, calls = replace(config, out=tmp_path / "out"), []
    real = corpus_build.write_shard

    def interrupted(path, samples):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, samples)

    monkeypatch.setattr(corpus_build, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_synthetic(wanted)
    with pytest.raises(CorpusError, match="not finished"):
        load_corpus(wanted.out, "train")
    build_synthetic(wanted)
    assert calls.count("train-000000.tar") == 1 and contents(wanted.out) == contents(corpus)


def test_two_processes_give_the_same_pictures(corpus, config, tmp_path):
    build_synthetic(replace(config, out=tmp_path / "out", workers=2))
    assert contents(tmp_path / "out") == contents(corpus)


@needs_ray
def test_a_ray_gives_the_same_pictures(local_ray, corpus, config, tmp_path):
    build_synthetic(replace(config, out=tmp_path / "out", engine="ray"))
    assert contents(tmp_path / "out") == contents(corpus)


def test_a_picture_does_not_depend_on_how_many_there_are(corpus, config, tmp_path):
    build_synthetic(replace(config, out=tmp_path / "out", n=2, validation=0, shard_size=1))
    few, many = load_corpus(tmp_path / "out", "train"), load_corpus(corpus, "train")
    assert few.jpegs == many.jpegs[:2]


def test_a_finished_folder_is_kept_and_another_configuration_refused(corpus, config, monkeypatch):
    monkeypatch.setattr(synthetic_build, "write_shards", None)
    build_synthetic(replace(config, workers=2))
    with pytest.raises(CorpusError, match="another configuration .*differs in seed"):
        build_synthetic(replace(config, seed=1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "n is at least 1"),
        ({"n": 3, "validation": 4}, "validation pictures are a part of all n"),
        ({"workers": 0}, "workers is at least 1"),
        ({"codes_rate": 1.5}, r"codes_rate is a share of the pictures, in \[0, 1\]; 1.5 came"),
        ({"degradation": Degradation(blur_rate=-0.1)}, r"degradation\.blur_rate is a share"),
        ({"pose": Pose(shift=-1.0)}, r"pose\.shift is not negative"),
        ({"pose": Pose(focal_low=2000.0)}, "focal_low is at most pose.focal_high"),
        ({"pose": Pose(yaw_limit=120.0)}, "yaw_limit lies in"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, options, sentence):
    with pytest.raises(CorpusError, match=sentence):
        SynthConfig(**{"out": tmp_path} | options)


def test_the_command_renders_and_reports(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(
            ["synth", "--n", "2", "--validation", "1", "--out", str(tmp_path / "out"), "--light.sources", "1"]
        )
    assert caught.value.code == 0
    assert "train: 1 crops of 1 persons" in capsys.readouterr().out
    assert len(load_corpus(tmp_path / "out", "validation")) == 1


def test_a_folder_without_photographs_is_a_sentence(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, sentence in (("empty", "holds no picture"), ("gone", "does not exist")):
        with pytest.raises(SystemExit) as caught:
            main(
                ["synth", "--n", "1", "--out", str(tmp_path / "out"), "--backgrounds", str(tmp_path / folder)]
            )
        assert caught.value.code == 1 and sentence in " ".join(capsys.readouterr().err.split())


def test_the_command_reads_codes_off_photographs(corpus_path, weights_path, model_path, tmp_path):
    codes = tmp_path / "codes.npz"
    with pytest.raises(SystemExit) as caught:
        main(
            ["synth-codes", "--corpus", str(corpus_path), "--weights", str(weights_path)]
            + ["--model", str(model_path), "--out", str(codes)]
        )
    assert caught.value.code == 0
    with np.load(codes, allow_pickle=False) as file:
        assert len(file["codes"]) == 20
    build_synthetic(SynthConfig(tmp_path / "out", n=2, codes=codes, codes_rate=1.0, model=str(model_path)))
    assert load_corpus(tmp_path / "out", "train").codes is not None

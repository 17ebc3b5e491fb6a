"""A corpus is built shard by shard, goes on after an interruption, and is the same however it was made."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_photos import as_tar, collection, config
from face_photos import needs_examples
from pool_work import needs_ray

from mofaface.corpus import CorpusConfig, CorpusError, build, build_corpus, describe_corpus, load_corpus
from mofaface.corpus.build import list_tasks, plan_shards
from mofaface.pool import PoolError

pytestmark = needs_examples


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection(tmp_path_factory.mktemp("photos") / "album")


@pytest.fixture(scope="module")
def corpus(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    build_corpus(config(photos, out))
    return out


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "corpus.json"}


def test_every_photo_is_a_crop_or_an_error(corpus: Path):
    index = [json.loads(line) for line in (corpus / "index.jsonl").read_text().splitlines()]
    errors = [json.loads(line) for line in (corpus / "errors.jsonl").read_text().splitlines()]
    assert len(index) == 6 and {line["name"]: line["kind"] for line in errors} == {
        "broken.jpg": "unreadable",
        "noise.png": "no face",
    }
    assert all((corpus / line["shard"]).is_file() for line in index)


def test_nothing_but_the_corpus_is_left_behind(corpus: Path):
    assert {path.suffix for path in corpus.iterdir()} == {".tar", ".json", ".jsonl"}
    assert not (corpus / "building.json").exists()


def test_a_finished_corpus_is_not_built_again(corpus: Path, photos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_write_all", None)
    assert build_corpus(config(photos, corpus))["counts"]["crops"]["train"] == len(
        load_corpus(corpus, "train")
    )


def test_archive_and_folder_give_the_same_samples(corpus: Path, photos: Path, tmp_path: Path):
    build_corpus(config(as_tar(photos, tmp_path / "album.tar"), tmp_path / "out"))
    assert {k: v for k, v in contents(tmp_path / "out").items() if k.endswith(".tar")} == {
        k: v for k, v in contents(corpus).items() if k.endswith(".tar")
    }


def test_an_interrupted_build_goes_on_and_ends_the_same(
    corpus: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wanted = config(photos, tmp_path / "out")
    real = build.make_sample
    calls = []

    def interrupted(task: object, **options: object) -> object:
        calls.append(task)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(task, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "make_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(wanted)
    assert len(list(wanted.out.glob("*.tar"))) == 1 and not list(wanted.out.glob("*.part"))
    with pytest.raises(CorpusError, match="not finished"):
        load_corpus(wanted.out, "train")
    build_corpus(wanted)
    first = next(iter(plan_shards(list_tasks(wanted), wanted.shard_size).values()))
    assert len(calls) == 5 + 8 - len(first)  # the finished shard was not read again
    assert contents(wanted.out) == contents(corpus)


def test_two_processes_give_the_same_corpus(corpus: Path, photos: Path, tmp_path: Path):
    build_corpus(config(photos, tmp_path / "out", workers=2))
    assert contents(tmp_path / "out") == contents(corpus)


@needs_ray
def test_a_ray_gives_the_same_corpus(local_ray: object, corpus: Path, photos: Path, tmp_path: Path):
    build_corpus(config(photos, tmp_path / "out", engine="ray"))
    assert contents(tmp_path / "out") == contents(corpus)
    assert (tmp_path / "out" / "corpus.json").read_bytes() == (corpus / "corpus.json").read_bytes()


def test_a_photo_whose_processes_died_is_an_error_and_dead_processes_are_a_sentence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    task = list_tasks(config(photos, tmp_path))[0]
    sample = build._lost(task, "its process died")
    assert (sample.key, sample.kind, sample.reason, sample.jpeg) == (
        task.key,
        "failed",
        "its process died",
        b"",
    )

    def dead(*_: object, **__: object) -> object:
        raise PoolError("A worker process died; run the same command again")

    monkeypatch.setattr(build, "make_sample", dead)
    with pytest.raises(CorpusError, match="died; run the same command again; finished shards are kept"):
        build_corpus(config(photos, tmp_path / "out"))


def test_a_full_disk_is_a_sentence(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, samples: Iterator[object]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_shard", full)
    with pytest.raises(CorpusError, match="disk .* is full"):
        build_corpus(config(photos, tmp_path / "out"))


def test_another_configuration_in_the_same_folder_is_refused(corpus: Path, photos: Path):
    with pytest.raises(CorpusError, match="another configuration"):
        build_corpus(config(photos, corpus, shard_size=2))


def test_photos_that_came_later_are_noticed(corpus: Path, photos: Path, tmp_path: Path):
    album = shutil.copytree(photos, tmp_path / "album")
    assert build_corpus(config(album, corpus))["config"]["photographs"]["count"] == 8
    shutil.copy(album / "noise.png", album / "later.png")
    with pytest.raises(CorpusError, match="another configuration .*differs in photographs"):
        build_corpus(config(album, corpus))


def test_photos_that_came_between_interruption_and_resume_are_noticed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    album = shutil.copytree(photos, tmp_path / "album")
    monkeypatch.setattr(build, "write_shard", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(config(album, tmp_path / "out"))
    (album / "noise.png").unlink()
    with pytest.raises(CorpusError, match=r"building\.json differs in photographs"):
        build_corpus(config(album, tmp_path / "out"))


def test_the_limit_takes_a_part_of_the_same_order(photos: Path, tmp_path: Path):
    wanted = config(photos, tmp_path)
    assert list_tasks(replace(wanted, limit=3)) == list_tasks(wanted)[:3]


def test_no_person_is_in_both_splits_and_no_photo_is_lost(photos: Path, tmp_path: Path):
    tasks = list_tasks(config(photos, tmp_path))
    shards = plan_shards(tasks, 3)
    assert sorted(task.key for members in shards.values() for task in members) == sorted(t.key for t in tasks)
    people = {
        s: {t.person for n, m in shards.items() if n.startswith(s) for t in m}
        for s in ("train", "validation")
    }
    assert people["train"].isdisjoint(people["validation"])


def test_keys_hold_no_dots_and_are_unique(photos: Path, tmp_path: Path):
    keys = [task.key for task in list_tasks(replace(config(photos, tmp_path), images=(photos, photos)))]
    assert len(set(keys)) == 16 and not any("." in key for key in keys)


def test_the_description_counts_everything(corpus: Path):
    text = describe_corpus(corpus)
    assert "from album: 6" in text and "left out, unreadable: 1" in text


def test_impossible_configurations_are_refused(tmp_path: Path):
    for options in ({"images": ()}, {"validation_fraction": 1.0}, {"workers": 0}):
        with pytest.raises(CorpusError):
            CorpusConfig(**{"images": (tmp_path,), "out": tmp_path} | options)

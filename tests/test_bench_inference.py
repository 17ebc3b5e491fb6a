"""The stages that `mofaface bench --inference` measures; times themselves are never tested."""

import json

from face_photos import EXAMPLES, needs_examples

from mofaface import bench, bench_inference
from mofaface.bench_inference import engines, measure_folder, measure_inference, mesh_call
from mofaface.commands_bench import Bench
from mofaface.reconstruct import load

PHOTO = str(EXAMPLES / "congress_C001072.jpg")


@needs_examples
def test_every_stage_is_measured_with_every_engine(monkeypatch, weights_path, model_path):
    monkeypatch.setattr(bench_inference, "REPEATS", 1)
    rows = list(measure_inference([PHOTO], str(weights_path), str(model_path)))
    assert all(0 < row.milliseconds < 60_000 for row in rows)
    for engine in engines():
        assert [row.batch for row in rows if row.stage == "encoder" and row.engine == engine] == [1, 32]
        assert {"detection", "whole, file to result"} <= {row.stage for row in rows if row.engine == engine}
    assert [row.batch for row in rows if row.stage == "refinement, 12 steps"] == [1, 32]
    assert {"reading", "crop", "mesh"} <= {row.stage for row in rows if not row.engine}


@needs_examples
def test_a_folder_is_the_given_photos_until_they_are_enough(monkeypatch, weights_path, model_path):
    monkeypatch.setattr(bench_inference, "FEWEST_FILES", 3)
    rows = list(measure_folder([PHOTO, PHOTO], str(weights_path), str(model_path)))
    assert [row.photos for row in rows] == [3] * len(engines())
    assert all(row.per_second > 0 for row in rows)


def test_the_measured_mesh_has_every_vertex_in_camera_space(weights_path, model_path):
    network = load(weights_path, model_path)
    places = mesh_call(network, network.autoencoder.decoder.model.layout.zero())(0)
    mean = network.autoencoder.decoder.model.mean_shape.numpy()
    assert places.shape == mean.shape and abs(places - mean - (0, 0, 1000)).max() < 1e-3


@needs_examples
def test_the_command_writes_the_figures(monkeypatch, weights_path, model_path, tmp_path):
    monkeypatch.setattr(bench_inference, "REPEATS", 1)
    monkeypatch.setattr(bench_inference, "FEWEST_FILES", 1)
    monkeypatch.setattr(bench, "measure_machine", lambda: bench.Machine(10.0, 100.0, 1))
    monkeypatch.setattr(bench, "measure_training_share", lambda *_, **__: bench.TrainingShare(9.0, 1.0))
    files = {"weights": str(weights_path), "model": str(model_path), "out": tmp_path / "bench.json"}
    assert Bench(batch=(1,), seconds=0.01, inference=(PHOTO,), **files).run() == 0
    values = json.loads((tmp_path / "bench.json").read_text())
    assert {row["stage"] for row in values["inference"]} >= {"encoder", "mesh"}
    assert [row["engine"] for row in values["folders"]] == list(engines())

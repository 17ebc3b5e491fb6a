"""The benchmark's arithmetic; times themselves are never tested."""

import json

import pytest
import torch
from little_face import little_arrays

from mofaface import bench
from mofaface.commands_bench import Bench
from mofaface.face_model import FaceModel
from mofaface.face_models.container import write_face_model
from mofaface.kernels import native_level

MACHINE = bench.Machine(bandwidth=10.0, arithmetic=100.0, threads=1)


def test_the_floor_is_the_longer_of_reading_and_multiplying():
    model = FaceModel(little_arrays(9))
    small = bench.measure_terms(model, MACHINE, 1, "autograd", seconds=0.01)
    numbers = 81 * 3 * (5 + 4 + 3)
    assert small.megabytes == pytest.approx(2 * 4 * numbers / 1e6)
    assert small.floor == pytest.approx(small.megabytes / 10)
    large = bench.measure_terms(model, MACHINE, 64, "autograd", seconds=0.01)
    assert large.floor == pytest.approx(4 * numbers * 64 / 100e6)
    assert small.milliseconds > small.floor and small.modes == 12


@pytest.mark.skipif(native_level() is None, reason="no compiled kernel is installed")
def test_bytes_follow_the_precision_and_memory_the_batch():
    model = FaceModel(little_arrays(9))
    megabytes = [bench.cost(model, 1, path)[0] for path in ("fused", "fused bfloat16", "fused int8")]
    assert megabytes == pytest.approx([megabytes[0], megabytes[0] / 2, megabytes[0] / 4])
    assert bench.workspace(model, 16, "fused") < bench.workspace(model, 64, "fused")
    assert bench.workspace(model, 16, "autograd") == 0


def test_the_facing_part_shrinks_as_heads_turn_away():
    model = FaceModel(little_arrays(17))
    parts = [bench.facing(model, 3, turned) for turned in (0.0, 1.2, 3.1)]
    assert parts[0] > 0.95 and parts[0] > parts[1] > parts[2]


def test_fewer_modes_are_the_first_ones():
    model = FaceModel(little_arrays(9))
    half = bench.fewer_modes(model, 2)
    assert (half.layout.shape, half.layout.expression, half.layout.reflectance) == (2, 2, 1)
    assert torch.equal(half.shape_basis, model.shape_basis[..., :2])


def test_the_command_prints_a_table_and_writes_its_figures(tmp_path, monkeypatch):
    write_face_model(tmp_path / "little.safetensors", little_arrays(17))
    monkeypatch.setattr(bench, "measure_machine", lambda: MACHINE)
    share = bench.TrainingShare(encoder=9.0, terms=1.0)
    monkeypatch.setattr(bench, "measure_training_share", lambda *_, **__: share)
    command = Bench(
        str(tmp_path / "little.safetensors"), batch=(2,), seconds=0.01, out=tmp_path / "bench.json"
    )
    assert command.run() == 0
    values = json.loads((tmp_path / "bench.json").read_text())
    assert {row["path"] for row in values["rows"]} >= set(bench.paths())
    assert share.share == pytest.approx(0.1)

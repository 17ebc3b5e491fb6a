"""`mofaface model import` from a file to a container."""

import numpy as np
import pytest
import tyro
from importers.foreign_head import foreign_head

from mofaface.commands_import import Format, ModelImport
from mofaface.face_models import load_face_model
from mofaface.face_models.importers import FORMATS


@pytest.fixture(autouse=True)
def nearly_full_coarse_mesh(monkeypatch):
    """The coarse mesh takes most of the time and has its own test."""
    monkeypatch.setattr("mofaface.face_models.importers.finish.COARSE", 0.98)


def linear_file(folder, **changes):
    raw = foreign_head((6, 4, 3))
    names = (
        "mean_shape",
        "shape_basis",
        "expression_basis",
        "mean_reflectance",
        "reflectance_basis",
        "triangles",
    )
    arrays = {name: getattr(raw, name) for name in (*names, "landmarks_68")} | changes
    np.savez(folder / "mine.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "mine.npz"


def test_every_format_is_offered_and_no_other():
    assert set(Format.__args__) == set(FORMATS)


def test_command_line_becomes_a_container_of_the_wanted_size(tmp_path, capsys):
    (tmp_path / "licence.txt").write_text("Only for me.\n")
    out = tmp_path / "out.safetensors"
    options = (
        f"{linear_file(tmp_path)} --format linear --out {out} --vertices 1200 --shape-modes 5 --name mine"
    )
    command = tyro.cli(ModelImport, args=[*options.split(), "--licence", str(tmp_path / "licence.txt")])
    assert command.run() == 0 and str(out) in capsys.readouterr().out
    model = load_face_model(out)
    assert abs(model.vertices - 1200) < 40 and model.layout.shape == 5 and model.layout.expression == 4
    assert (model.name, model.licence) == ("mine", "Only for me.")


def test_a_list_of_landmarks_is_taken_from_one_on(tmp_path):
    numbers = foreign_head((6, 4, 3)).landmarks_68
    np.save(tmp_path / "l.npy", numbers + 1)
    path, out = linear_file(tmp_path, landmarks_68=None), tmp_path / "out.safetensors"
    command = ModelImport((path,), "linear", out, landmarks=tmp_path / "l.npy", landmarks_from=1, crop=False)
    assert command.run() == 0
    assert load_face_model(out).landmarks_68.tolist() == numbers.tolist()


def test_a_file_that_is_none_leaves_no_container(tmp_path):
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match="there is none at .*gone.npz"):
        ModelImport((tmp_path / "gone.npz",), "linear", out).run()
    assert not out.exists()

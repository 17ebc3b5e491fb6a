"""Any linear model through an .npz or an .h5, and what every raw model must be."""

import h5py
import numpy as np
import pytest

from importers.files import MEAN, TRIANGLES, N, code, vertices
from mofaface.face_models.importers import FORMATS, ModelFileError, read_model, reader
from mofaface.face_models.importers.raw import outward


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "mean_shape": MEAN, "shape_basis": random.normal(size=(N, 3, 3)), "expression_basis": random.normal(size=(N, 3, 2)),
        "mean_reflectance": np.full((N, 3), 0.4), "reflectance_basis": 0.1 * random.normal(size=(N, 3, 2)),
        "triangles": TRIANGLES, "landmarks_68": np.arange(68), "licence": "CC0-1.0", "name": "mine",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_arrays_come_back_as_the_model(arrays, tmp_path, kind):
    path = tmp_path / f"mine.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    raw = read_model("linear", [path])
    alpha, delta = code(3, 0), code(2, 1)
    expected = MEAN + arrays["shape_basis"] @ alpha + arrays["expression_basis"] @ delta
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected)
    assert (raw.licence, raw.name, raw.landmarks_68[5]) == ("CC0-1.0", "mine", 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"triangles": None}, "must hold triangles"),
        ({"shape_basis": np.zeros((N, 2, 3))}, "one row of three for each"),
        ({"triangles": TRIANGLES + 5}, "must be numbers of its 81 vertices"),
        ({"mean_shape": np.full((N, 3), np.nan)}, "holds finite numbers"),
    ],
)
def test_what_is_no_model_is_said(arrays, tmp_path, change, message):
    kept = {name: value for name, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "mine.npz", **kept)
    with pytest.raises(ModelFileError, match=message):
        read_model("linear", [tmp_path / "mine.npz"])


def test_triangles_are_turned_outward():
    np.testing.assert_array_equal(outward(MEAN, TRIANGLES), TRIANGLES)
    np.testing.assert_array_equal(outward(MEAN, TRIANGLES[:, ::-1]), TRIANGLES)


def test_every_format_has_its_reader_and_others_are_refused():
    assert all(callable(reader(name)) for name in FORMATS)
    with pytest.raises(ModelFileError, match="the format is one of bfm2009"):
        read_model("dreams", [])

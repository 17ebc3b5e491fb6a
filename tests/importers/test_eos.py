"""eos' archives, written and read by eos-py itself where it is installed."""

import builtins

import numpy as np
import pytest

from importers.files import MEAN, TRIANGLES, N, basis, code, sigmas, vertices
from mofaface.face_models.importers import ModelFileError, read_model


def test_faces_and_colours_are_those_eos_says(tmp_path):
    eos = pytest.importorskip("eos")
    triangles = TRIANGLES.tolist()

    def pca(mean, k, scale, seed):
        eigenvalues = (scale * sigmas(k, seed)) ** 2
        return eos.morphablemodel.PcaModel(
            mean.astype("f4"), basis(k, 1, seed).astype("f4"), eigenvalues.astype("f4"), triangles
        )

    shape, colour = pca(MEAN.ravel(), 4, 3.0, 0), pca(np.full(3 * N, 0.5), 3, 0.01, 1)
    path = tmp_path / "sfm.bin"
    eos.morphablemodel.save_model(eos.morphablemodel.MorphableModel(shape, colour), str(path))
    raw = read_model("eos", [path])
    alpha, beta = code(4, 0), code(3, 1)
    np.testing.assert_allclose(
        vertices(raw, alpha, np.zeros(0)).ravel(), np.ravel(shape.draw_sample(alpha.astype("f4"))), atol=1e-3
    )
    seen = (raw.mean_reflectance + raw.reflectance_basis @ beta).ravel()
    np.testing.assert_allclose(seen, np.ravel(colour.draw_sample(beta.astype("f4"))), atol=1e-4)
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="no readable eos model"):
        read_model("eos", [path])


def test_without_eos_py_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "model.bin").write_bytes(b"")
    original = builtins.__import__

    def without(name, *arguments, **named):
        if name == "eos":
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelFileError, match="pip install eos-py"):
        read_model("eos", [tmp_path / "model.bin"])

"""The Basel Face Model's files give the faces that their own definition says."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from importers.files import MEAN, TRIANGLES, N, basis, code, sigmas, vertices, write_bfm2009
from mofaface.face_models.importers import ModelFileError, read_model


def test_bfm2009_is_mean_plus_columns_times_deviations(tmp_path):
    parts = write_bfm2009(tmp_path / "01_MorphableModel.mat")
    raw = read_model("bfm2009", [tmp_path / "01_MorphableModel.mat"])
    alpha = code(5, 0)
    expected = parts["shapeMU"][:, 0] + parts["shapePC"] @ (parts["shapeEV"][:, 0] * alpha)
    np.testing.assert_allclose(vertices(raw, alpha, np.zeros(0)), expected.reshape(-1, 3) / 1000)
    beta = code(5, 1)
    colour = parts["texMU"][:, 0] + parts["texPC"] @ (parts["texEV"][:, 0] * beta)
    np.testing.assert_allclose(
        raw.mean_reflectance + raw.reflectance_basis @ beta, colour.reshape(-1, 3) / 255
    )
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)


def write_bfm_h5(path, minor: int, k=(4, 3, 2)):
    parts = {}
    with h5py.File(path, "w") as file:
        for i, (part, count) in enumerate(zip(("shape", "color", "expression"), k, strict=True)):
            mean = {"shape": MEAN.ravel(), "color": np.full(3 * N, 0.5), "expression": np.full(3 * N, 0.25)}[
                part
            ]
            variance = sigmas(count, i) ** 2
            columns = basis(count, 1, 10 + i)
            stored = columns * np.sqrt(variance) if minor < 9 else columns
            file[f"{part}/model/mean"], file[f"{part}/model/pcaBasis"] = mean, stored
            file[f"{part}/model/pcaVariance"], file[f"{part}/model/noiseVariance"] = variance, 0.0
            file[f"{part}/representer/cells"] = TRIANGLES.T
            file[f"{part}/representer/points"] = MEAN.T
            file[f"{part}/version/majorVersion"], file[f"{part}/version/minorVersion"] = 0, minor
            parts[part] = mean, columns * np.sqrt(variance)
        file["metadata/landmarks/json"] = '[{"id": "center.nose.tip", "coordinates": [0, 0, 0]}]'
    return parts


@pytest.mark.parametrize("minor", [8, 9])
@pytest.mark.parametrize("name", ["bfm2017", "bfm2019"])
def test_bfm_h5_adds_both_means_and_minds_its_version(tmp_path, name, minor):
    path = tmp_path / "model2017-1_face12_nomouth.h5"
    parts = write_bfm_h5(path, minor)
    raw = read_model(name, [path])
    alpha, delta, beta = code(4, 0), code(2, 1), code(3, 2)
    expected = sum(mean for mean, _ in (parts["shape"], parts["expression"]))
    expected = expected + parts["shape"][1] @ alpha + parts["expression"][1] @ delta
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected.reshape(-1, 3))
    colour = parts["color"][0] + parts["color"][1] @ beta
    np.testing.assert_allclose(raw.mean_reflectance + raw.reflectance_basis @ beta, colour.reshape(-1, 3))
    assert "names 1 landmarks" in raw.notes


def test_another_file_is_told_apart(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(ModelFileError, match="must hold shape/model/mean"):
        read_model("bfm2017", [tmp_path / "other.h5"])
    write_bfm_h5(tmp_path / "part.h5", 9)
    with h5py.File(tmp_path / "part.h5", "a") as file:
        del file["color/model/pcaVariance"]
    with pytest.raises(ModelFileError, match="must hold color/model/pcaVariance"):
        read_model("bfm2019", [tmp_path / "part.h5"])
    savemat(tmp_path / "odd.mat", write_bfm2009(tmp_path / "odd.mat") | {"texEV": np.ones((2, 1))})
    with pytest.raises(ModelFileError, match=r"has 2 for a basis of shape \(243, 5\)"):
        read_model("bfm2009", [tmp_path / "odd.mat"])
    (tmp_path / "cut.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut")
    with pytest.raises(ModelFileError, match=r"no readable \.mat file"):
        read_model("bfm2009", [tmp_path / "cut.mat"])
    (tmp_path / "cut.h5").write_bytes(b"no")
    with pytest.raises(ModelFileError, match="no readable HDF5 file"):
        read_model("bfm2019", [tmp_path / "cut.h5"])
    with pytest.raises(ModelFileError, match="one file ending in .mat"):
        read_model("bfm2009", [tmp_path / "cut.h5"])

"""Deep3D's model, and the paper's own: BFM 2009 with FaceWarehouse's expressions, exactly 80, 64 and 80 modes."""

import numpy as np
import pytest
from scipy.io import savemat

from importers.files import MEAN, TRIANGLES, N, basis, code, sigmas, vertices, write_bfm2009
from mofaface.face_models.importers import ModelFileError, read_model


def test_deep3d_is_in_decimetres_with_scaled_bases(tmp_path):
    parts = {
        "meanshape": MEAN.reshape(1, -1) / 100, "meantex": np.full((1, 3 * N), 127.5), "idBase": basis(6, 0.02, 0),
        "exBase": basis(4, 0.01, 1), "texBase": basis(5, 9.0, 2), "tri": TRIANGLES + 1,
        "keypoints": np.arange(1, 69)[None],
    }  # fmt: skip
    savemat(tmp_path / "BFM_model_front.mat", parts)
    raw = read_model("deep3d", [tmp_path / "BFM_model_front.mat"])
    alpha, delta = code(6, 0), code(4, 1)
    expected = 100 * (parts["meanshape"][0] + parts["idBase"] @ alpha + parts["exBase"] @ delta)
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected.reshape(-1, 3))
    np.testing.assert_allclose(raw.mean_reflectance, 0.5)
    np.testing.assert_array_equal(raw.landmarks_68, np.arange(68))
    np.testing.assert_array_equal(raw.triangles, TRIANGLES)


@pytest.fixture
def folder(tmp_path):
    """BFM 2009 with 90 modes; expressions of 79 modes on all vertices but the first two."""
    parts = write_bfm2009(tmp_path / "01_MorphableModel.mat", k=90)
    kept = np.arange(2, N)
    savemat(tmp_path / "BFM_exp_idx.mat", {"trimIndex": kept[None] + 1})
    columns = basis(79, 1.0, 7, len(kept)).astype("<f4")
    numbers = np.concatenate([np.zeros(3 * len(kept), "<f4"), columns.T.ravel()])
    (tmp_path / "Exp_Pca.bin").write_bytes(np.array([79], "<i4").tobytes() + numbers.tobytes())
    deviation = 1000 * sigmas(79, 5)
    np.savetxt(tmp_path / "std_exp.txt", deviation[None])
    return tmp_path, parts, kept, columns, deviation


def test_the_papers_model_has_80_64_80_modes_and_its_definitions_faces(folder):
    path, parts, kept, columns, deviation = folder
    raw = read_model("bfm2009-exp", sorted(path.iterdir()))
    sizes = [b.shape[-1] for b in (raw.shape_basis, raw.expression_basis, raw.reflectance_basis)]
    assert sizes == [80, 64, 80]
    alpha, delta = code(80, 0), code(64, 1)
    shape = parts["shapeMU"][:, 0] + parts["shapePC"][:, :80] @ (parts["shapeEV"][:80, 0] * alpha)
    expression = columns[:, :64].astype(float) @ (deviation[:64] * delta)
    # Deep3D's transfer of the model: mean, shape and expression all over 1e5 are decimetres.
    expected = 100 * (shape.reshape(-1, 3)[kept] / 1e5 + expression.reshape(-1, 3) / 1e5)
    np.testing.assert_allclose(vertices(raw, alpha, delta), expected, rtol=1e-6, atol=1e-6)
    # Triangles at the two vertices that expressions lack are gone, the others keep their corners.
    assert len(raw.triangles) == (TRIANGLES >= 2).all(axis=1).sum()
    np.testing.assert_array_equal(raw.triangles, TRIANGLES[(TRIANGLES >= 2).all(axis=1)] - 2)


def test_a_missing_and_a_cut_file_are_named(folder):
    path = folder[0]
    with pytest.raises(ModelFileError, match=r"needs a file std_exp\.txt"):
        read_model("bfm2009-exp", [p for p in sorted(path.iterdir()) if p.name != "std_exp.txt"])
    whole = (path / "std_exp.txt").read_text()
    (path / "std_exp.txt").write_text("1.0 2.0")
    with pytest.raises(ModelFileError, match="must hold 79 numbers, one for each expression mode; it has 2"):
        read_model("bfm2009-exp", [path])
    (path / "std_exp.txt").write_text(whole)
    binary = path / "Exp_Pca.bin"
    binary.write_bytes(binary.read_bytes()[:-8])
    with pytest.raises(ModelFileError, match="must hold 79 modes on 79 vertices"):
        read_model("bfm2009-exp", [path])

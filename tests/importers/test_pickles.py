"""Pickles: arrays come through, code does not."""

import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from mofaface.face_models.importers.pickles import load_pickle
from mofaface.face_models.importers.raw import ModelFileError

# The function by which NumPy pickles a lone number.
scalar = np.float64(0).__reduce__()[0]


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_and_plain_values_come_through(tmp_path, protocol):
    wanted = {
        "v": np.arange(6.0).reshape(2, 3),
        "n": np.float32(2.5),
        "names": ["a", "b"],
        "i": np.arange(3, dtype="u4"),
    }
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(wanted, protocol))
    found = load_pickle(path)
    np.testing.assert_array_equal(found["v"], wanted["v"])
    np.testing.assert_array_equal(found["i"], wanted["i"])
    assert (found["n"], found["names"]) == (2.5, ["a", "b"])


@pytest.mark.parametrize("kind", [csc_matrix, csr_matrix])
def test_sparse_matrices_come_in_full(tmp_path, kind):
    dense = np.random.default_rng(0).normal(size=(3, 5)) * (np.random.default_rng(1).random((3, 5)) > 0.5)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"J_regressor": kind(dense)}, 2))
    np.testing.assert_array_equal(load_pickle(path)["J_regressor"], dense)


@pytest.mark.parametrize("protocol", [0, 2])
def test_chumpy_arrays_come_as_arrays_without_chumpy(tmp_path, monkeypatch, protocol):
    module = types.ModuleType("chumpy.ch")
    holder = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = holder
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    array = holder()
    array.__dict__.update(x=np.arange(4.0), _dirty_vars=set())
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"shapedirs": array}, protocol))
    monkeypatch.undo()
    assert "chumpy" not in sys.modules
    np.testing.assert_array_equal(load_pickle(path)["shapedirs"], np.arange(4.0))


def attacks(mark):
    import builtins
    import os

    touch = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch {mark}"),
        "eval": Calls(builtins.eval, touch),
        "exec": Calls(builtins.exec, touch),
        "subprocess": Calls(subprocess.call, ["touch", str(mark)]),
        "getattr": Calls(builtins.getattr, np.ndarray, "tofile"),
        "import": Calls(builtins.__import__, "os"),
        "numpy.load": Calls(np.load, str(mark)),
        "numpy.fromfile": Calls(np.fromfile, str(mark)),
        "objects": np.array([Calls(os.system, f"touch {mark}")], dtype=object),
        "objects of nothing": np.array([None], dtype=object),
        "held in a list": [1, {"deep": Calls(os.system, f"touch {mark}")}],
    }


@pytest.mark.parametrize("name", list(attacks("x")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_runs(tmp_path, name, protocol):
    mark, path = tmp_path / "ran", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"v_template": attacks(mark)[name]}, protocol))
    with pytest.raises(ModelFileError, match="nothing but arrays|only arrays of numbers"):
        load_pickle(path)
    assert not mark.exists()


def test_the_same_attack_works_on_a_plain_unpickler(tmp_path):
    # Otherwise the tests above would prove nothing.
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(attacks(mark)["os.system"]))
    assert mark.exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"a": np.arange(9)})[:40]])
def test_a_damaged_pickle_gives_a_sentence(tmp_path, content):
    path = tmp_path / "cut.pkl"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable pickle"):
        load_pickle(path)


@pytest.mark.parametrize(
    "odd",
    [Calls(scalar, np.dtype("f8"), 8), Calls(scalar, np.dtype("f8"), 10**11), Calls(scalar, 8, b"12345678")],
)
def test_a_number_is_not_taken_for_bytes(tmp_path, odd):
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps({"v_template": odd}, 2))
    with pytest.raises(ModelFileError, match="not a readable pickle"):
        load_pickle(path)


def test_a_sparse_matrix_that_claims_more_numbers_than_it_has_is_refused(tmp_path):
    matrix = csc_matrix(np.eye(3))
    matrix.indptr = np.array([0, 1, 2, 10**11])
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps({"J_regressor": matrix}, 2))
    with pytest.raises(ModelFileError, match="3 numbers for a sparse matrix of 100000000000"):
        load_pickle(path)


def test_something_else_than_a_dictionary_is_refused(tmp_path):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelFileError, match="must hold a dictionary"):
        load_pickle(path)

"""Arrays out of a pickle file, and nothing else: no class of the file is imported and none of its functions runs.

A pickle is a program that names functions and calls them. Here every name it may say stands for a small class of this
module that only keeps data; any other name is refused. Python 2 pickles and chumpy objects (FLAME) are read as well.
"""

import math
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mofaface.face_models.importers.raw import ModelFileError

# A sparse matrix is given as a dense one, up to so many numbers.
LARGEST_DENSE = 100_000_000


def load_arrays(path: Path) -> Any:
    """What a pickle file holds as dictionaries, lists, numbers, texts and NumPy arrays; sparse matrices are made dense."""
    try:
        with path.open("rb") as file:
            # Python 2 wrote bytes as texts; Latin-1 keeps every byte.
            return _plain(_ArraysOnly(file, encoding="latin1").load(), {})
    except (ModelFileError, FileNotFoundError):
        raise
    # A damaged pickle can raise anything, the manual says.
    except Exception as error:
        raise ModelFileError(
            f"{path} is not a readable pickle of arrays ({type(error).__name__}: {error}); copy it again"
        ) from error


class _Kept:
    """Something the file builds: it keeps its state and does nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def plain(self, done: dict[int, Any]) -> Any:
        return None


class _Function(_Kept):
    """Stands for a function: calling it makes the value of `make`. A class, so that no pickle can change it."""

    def __new__(cls, *values: Any) -> Any:
        return cls.make(*values)

    @staticmethod
    def make(*values: Any) -> Any:
        raise NotImplementedError


class _Dtype(_Kept):
    """The type of an array's numbers: numpy.dtype('f8', False, True) and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(code if isinstance(code, str) else "O")
        if self.dtype.kind not in "biufSU":
            raise ModelFileError(
                f"only arrays of numbers or texts are read from a pickle, and this one holds type '{code}'; "
                "take the file from where the model's authors publish it"
            )

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array(_Kept):
    """An array: shape, type and bytes of numpy.ndarray's state."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        shape, dtype, by_columns, data = state[-4:]
        self.values = _array(data, dtype, shape, "F" if by_columns else "C")

    def plain(self, done: dict[int, Any]) -> np.ndarray:
        return self.values


class _Sparse(_Kept):
    """A SciPy matrix by compressed columns or rows."""

    by_columns = True

    def plain(self, done: dict[int, Any]) -> np.ndarray:
        state = {name.lstrip("_"): _plain(value, done) for name, value in self.state.items()}
        return _dense(state["shape"], state["data"], state["indices"], state["indptr"], self.by_columns)


class _SparseRows(_Sparse):
    by_columns = False


class _Chumpy(_Kept):
    """A chumpy object: the array it holds, or those of its elements that it selects; None for a formula."""

    def plain(self, done: dict[int, Any]) -> Any:
        state = self.state if isinstance(self.state, dict) else {}
        if "x" in state:
            return _plain(state["x"], done)
        if {"a", "idxs"} <= state.keys():
            chosen = np.ravel(_plain(state["a"], done))[_plain(state["idxs"], done)]
            shape = _plain(state.get("preferred_shape"), done)
            return chosen if shape is None else chosen.reshape(shape)
        return None


class _Reconstruct(_Function):
    @staticmethod
    def make(kind: Any, *_: Any) -> _Array:
        return _Array() if kind is _Array else _refuse("an array of another kind than numpy.ndarray")


class _FromBuffer(_Function):
    @staticmethod
    def make(data: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
        return _array(data, dtype, shape, order)


class _Scalar(_Function):
    @staticmethod
    def make(dtype: _Dtype, data: Any) -> Any:
        return _array(data, dtype, (), "C")[()]


class _NewObject(_Function):
    """copy_reg._reconstructor(class, object, None), with which Python 2 makes an object."""

    @staticmethod
    def make(kind: Any, *_: Any) -> _Kept:
        allowed = kind in (_Chumpy, _Sparse, _SparseRows)
        return kind() if allowed else _refuse("an object of a class that is no array")


class _Encode(_Function):
    """_codecs.encode(text, 'latin1'), with which Python 3 writes bytes for Python 2."""

    @staticmethod
    def make(text: str, *_: Any) -> bytes:
        return text.encode("latin1")


class _List(_Function):
    @staticmethod
    def make(items: Any = ()) -> list[Any]:
        return list(items)


class _Dict(_Function):
    @staticmethod
    def make(items: Any = ()) -> dict[Any, Any]:
        return dict(items)


_NAMES: dict[tuple[str, str], type[_Kept]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
    ("collections", "OrderedDict"): _Dict,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Reconstruct
    _NAMES[f"{_core}.multiarray", "scalar"] = _Scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _FromBuffer
for _module in ("copy_reg", "copyreg"):
    _NAMES[_module, "_reconstructor"] = _NewObject
for _module in ("__builtin__", "builtins"):
    _NAMES |= {(_module, "set"): _List, (_module, "frozenset"): _List}
    _NAMES[_module, "object"] = _Kept
for _module in ("scipy.sparse", "scipy.sparse._csc", "scipy.sparse.csc"):
    _NAMES |= {(_module, "csc_matrix"): _Sparse, (_module, "csc_array"): _Sparse}
for _module in ("scipy.sparse", "scipy.sparse._csr", "scipy.sparse.csr"):
    _NAMES |= {(_module, "csr_matrix"): _SparseRows, (_module, "csr_array"): _SparseRows}


class _ArraysOnly(pickle.Unpickler):
    """Gives a stand-in of this module for every name that arrays need, and refuses all others."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "chumpy" or module_name.startswith("chumpy."):
            return _Chumpy
        kind = _NAMES.get((module_name, global_name))
        return kind if kind is not None else _refuse(f"'{module_name}.{global_name}'")

    def persistent_load(self, pid: Any) -> Any:
        _refuse("an object outside the file")


def _refuse(what: str) -> NoReturn:
    raise ModelFileError(
        f"a face model's pickle may hold nothing but arrays, and this one asks for {what}, which is refused; "
        "take the file from where the model's authors publish it"
    )


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    # bytes(n) of a number n would be n zeros.
    raw = data.encode("latin1") if isinstance(data, str) else memoryview(data).tobytes()
    if len(raw) != math.prod(shape) * dtype.dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape} and type {dtype.dtype}")
    # Native byte order, and memory of its own.
    values = np.frombuffer(raw, dtype.dtype).astype(dtype.dtype.newbyteorder("="))
    return values.reshape(shape, order="F" if order == "F" else "C")


def _dense(
    shape: Any, data: np.ndarray, indices: np.ndarray, starts: np.ndarray, by_columns: bool
) -> np.ndarray:
    rows, columns = (int(n) for n in shape)
    if starts[-1] != len(data):
        raise ValueError(f"{len(data)} numbers for a sparse matrix of {starts[-1]}")
    if not 0 <= rows * columns <= LARGEST_DENSE:
        raise ValueError(f"a sparse matrix of {rows} x {columns} is larger than any of a face model")
    dense = np.zeros((rows, columns), data.dtype)
    outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    np.add.at(dense, (indices, outer) if by_columns else (outer, indices), data)
    return dense


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Plain data for what was unpickled; `done` keeps what occurs twice from being copied again and again."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Kept):
        done[id(value)] = None
        done[id(value)] = value.plain(done)
    elif isinstance(value, dict):
        copy: dict[Any, Any] = {}
        done[id(value)] = copy
        copy.update((key, _plain(item, done)) for key, item in value.items() if not isinstance(key, _Kept))
    elif isinstance(value, list | tuple | set | frozenset):
        items: list[Any] = []
        done[id(value)] = items
        items.extend(_plain(item, done) for item in value)
    else:
        return value if not isinstance(value, type) else None
    return done[id(value)]


def load_pickle(path: Path) -> dict[str, Any]:
    """The entries of a pickled dictionary; raises ModelFileError for anything else."""
    loaded = load_arrays(path)
    if not isinstance(loaded, dict):
        raise ModelFileError(f"{path} must hold a dictionary of arrays, it holds a {type(loaded).__name__}")
    return {str(name): value for name, value in loaded.items()}

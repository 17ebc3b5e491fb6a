"""ONNX Runtime where it is installed or asked for, with one clear error where it is not."""

import sys
import threading

import numpy as np
import pytest

from mofaface import engines
from mofaface.engines import uses_onnxruntime


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(engines.VARIABLE, raising=False)


def test_auto_is_onnx_runtime_where_it_is_installed(monkeypatch):
    for installed in (True, False):
        monkeypatch.setattr(engines, "has_onnxruntime", lambda installed=installed: installed)
        assert uses_onnxruntime("auto") == installed
        assert not uses_onnxruntime("torch")


def test_the_variable_decides_for_auto_only(monkeypatch):
    monkeypatch.setattr(engines, "has_onnxruntime", lambda: True)
    monkeypatch.setenv(engines.VARIABLE, "torch")
    assert not uses_onnxruntime() and not uses_onnxruntime("auto")
    monkeypatch.setenv(engines.VARIABLE, "fastest")
    with pytest.raises(ValueError, match="an engine is one of auto, torch, onnxruntime; 'fastest' came"):
        uses_onnxruntime()
    assert not uses_onnxruntime("torch")


def test_what_was_asked_for_and_is_not_installed_is_an_import_error_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    pytest.importorskip("onnx")
    with pytest.raises(ImportError) as caught:
        uses_onnxruntime("onnxruntime")
    assert caught.value.name == "onnxruntime"


def test_a_session_may_be_called_from_several_threads():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape = ["batch", 3]
    places = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    graph = onnx.helper.make_graph([node], "double", places[:1], places[1:])
    imports = [onnx.helper.make_opsetid("", 18)]
    session = engines.Session(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10))
    found: dict[int, bool] = {}

    def work(k: int) -> None:
        values = np.full((k, 3), k, np.float32)
        found[k] = all(np.array_equal(session(values)[0], 2 * values) for _ in range(50))

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: True, 2: True, 3: True, 4: True}

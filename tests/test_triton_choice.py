"""Which code computes the terms, and that none of it is needed to import the package."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from mofaface.kernels import choose


def test_each_device_has_its_fastest_path(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(choose, "has_triton", lambda: True)
    monkeypatch.setattr(choose.native, "native_level", lambda: "baseline")
    assert choose.fastest_path(cpu, torch.float32) == "compiled"
    assert choose.fastest_path(cuda, torch.float32) == "triton"
    assert choose.fastest_path(cuda, torch.float64) == choose.fastest_path(cpu, torch.float64) == "plain"
    assert choose.fastest_path(torch.device("mps"), torch.float32) == "plain"
    monkeypatch.setattr(choose, "has_triton", lambda: False)
    monkeypatch.setattr(choose.native, "native_level", lambda: None)
    assert choose.fastest_path(cpu, torch.float32) == choose.fastest_path(cuda, torch.float32) == "plain"


@pytest.mark.parametrize(
    ("found", "usable"),
    [("3.5.0", True), ("3.10.1+git0", True), ("4.0", True), ("3.4.0", False), ("2.9", False)],
)
def test_an_old_triton_is_not_used(found, usable, monkeypatch):
    monkeypatch.setattr(choose, "version", lambda name: found)
    assert choose.has_triton() is usable


def test_a_missing_triton_is_not_used(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(choose, "version", missing)
    assert not choose.has_triton()


def test_the_package_needs_no_triton():
    program = """
import sys
sys.modules["triton"] = None  # an import raises ImportError
import mofaface, mofaface.kernels, mofaface.training
assert not any(name.startswith("mofaface.kernels.triton") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)

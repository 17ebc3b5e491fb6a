"""Checkpoints: all that a run needs to go on exactly, as tensors and plain values in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mofaface.weights import FORMAT_VERSION, WeightsError, read_tensors, write_tensors

FORMAT = "mofaface-checkpoint"


def write_checkpoint(
    path: Path, parts: dict[str, nn.Module], optimiser: torch.optim.Optimizer, values: dict[str, Any]
) -> None:
    """Write the state of modules (by name) and of the optimiser; `values` are plain."""
    tensors = {
        f"{part}/{name}": t for part, module in parts.items() for name, t in module.state_dict().items()
    }
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": t for name, t in state.items()}
    # safetensors refuses tensors that share memory; a clone of each is cheap next to the file.
    tensors = {name: t.clone() for name, t in tensors.items()}
    write_tensors(path, tensors, {"format": FORMAT, "format_version": FORMAT_VERSION, "values": values})


def read_checkpoint(
    path: Path, parts: dict[str, nn.Module], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's state back into modules and optimiser and return its plain values."""
    tensors, metadata = read_tensors(path, FORMAT)
    try:
        for part, module in parts.items():
            module.load_state_dict(_under(tensors, part))
        optimiser.load_state_dict(
            {"state": _optimiser_state(tensors), "param_groups": optimiser.state_dict()["param_groups"]}
        )
        _lay_out(optimiser)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path} belongs to a run with another configuration: {str(error)[:300]}"
        ) from error
    return json.loads(metadata["values"])


def _under(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}


def _optimiser_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimiser").items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    return state


def _lay_out(optimiser: torch.optim.Optimizer) -> None:
    """Give the state the memory layout of its parameters: a file has lost it, and kernels walk through both at once."""
    for p, state in optimiser.state.items():
        for name, value in state.items():
            if value.shape == p.shape and value.stride() != p.stride():
                state[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)

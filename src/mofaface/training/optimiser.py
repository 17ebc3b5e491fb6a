"""Optimisers and their rates."""

import math

import torch

from mofaface.encoders import Encoder
from mofaface.kernels.adadelta import Adadelta
from mofaface.training.config import OptimiserConfig

# Zeiler (2012) and Caffe's solver, which the paper used; the paper names only the rates.
ADADELTA_RHO, ADADELTA_EPS = 0.95, 1e-6


def build_optimiser(encoder: Encoder, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of an encoder, with a group of its own for the z-translation."""
    rates = {"z": config.rate_z, "backbone": config.rate * config.backbone, "rest": config.rate}
    groups = [{"params": p, "rate": rates[name]} for name, p in encoder.parameter_groups().items() if p]
    if config.name == "adadelta":
        return Adadelta(groups, lr=config.rate, rho=ADADELTA_RHO, eps=ADADELTA_EPS)
    # The second moment forgets fast: with 0.999 a sudden gradient makes steps of three times the rate, and a run diverges.
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), weight_decay=config.weight_decay)


def set_rates(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, iteration: int, iterations: int
) -> None:
    """Give every group its rate for this iteration."""
    factor = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
    if config.cosine:
        factor *= 0.5 * (1 + math.cos(math.pi * iteration / iterations))
    for group in optimiser.param_groups:
        group["lr"] = factor * group["rate"]

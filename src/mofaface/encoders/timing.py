"""How long an encoder takes, in the way that training and reconstruction use it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mofaface.code import CodeLayout
from mofaface.encoders.encoder import Encoder


@dataclass(frozen=True)
class EncoderTiming:
    """Milliseconds per image, the fastest of the repeats: other work on the machine only adds."""

    forward: float
    "Evaluation mode, no gradients."
    step: float
    "Training mode: forward and the gradients of every parameter."


def _milliseconds(call: Callable[[], None], repeats: int) -> float:
    """The shortest duration of a call, after one that is not counted."""
    durations = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        durations.append(1000 * (time.perf_counter() - start))
    return min(durations[1:])


def measure_encoder(
    encoder: Encoder, layout: CodeLayout, batch: int = 32, repeats: int = 5, bfloat16: bool = False
) -> EncoderTiming:
    """The encoder's times on random crops, on the CPU with torch's current number of threads."""
    images = torch.rand(batch, 3, 240, 240)

    def predict() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return layout.pack(encoder(images))

    def forward() -> None:
        with torch.inference_mode():
            predict()

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        predict().square().sum().backward()

    encoder.eval()
    forward_time = _milliseconds(forward, repeats)
    encoder.train()
    return EncoderTiming(forward_time / batch, _milliseconds(step, repeats) / batch)

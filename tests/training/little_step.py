"""Little networks with the optimisers of a GPU, on the CPU, and a watch for what a CUDA graph cannot hold."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from mofaface.code import CodeLayout
from mofaface.encoders import Encoder
from mofaface.encoders.alexnet import AlexNet
from mofaface.encoders.head import CodeHead
from mofaface.encoders.mobilenet import MobileNetV2
from mofaface.kernels.terms import Terms
from mofaface.training.batches import Batch
from mofaface.training.config import OptimiserConfig, TrainConfig
from mofaface.training.optimiser import build_optimiser
from mofaface.training.shared_layers import share_layers
from mofaface.training.step import Step
from mofaface.training.tally import Tally
from mofaface.training.trainer import ALONE

LITTLE = CodeLayout(shape=5, expression=4, reflectance=3)
ADAMW = TrainConfig(optimiser=OptimiserConfig(rate=1e-3, rate_z=1e-3, warmup=0, cosine=False), average=0.9)
ADADELTA = TrainConfig(
    optimiser=OptimiserConfig("adadelta", 0.1, 0.0005, weight_decay=0, warmup=0, cosine=False, clip=0),
    average=0,
)


def little_terms(code, image, targets, confidence):
    """Differentiable terms that depend on everything given, in place of a face model's."""
    brightness = image.mean((1, 2, 3))
    places = 120 + code.translation[:, None, :2] + torch.zeros_like(targets)
    light = (code.gamma.mean((1, 2)) - brightness).abs() + 0.1 * (code.alpha - 1).square().sum(-1)
    land = (confidence * ((places - targets) / 240).square().sum(-1)).sum(-1)
    return Terms(light, land, places.detach(), torch.ones_like(land))


def encoder_of(backbone, device="cpu"):
    """A little AlexNet, which has dropout, or a MobileNet, which has batch statistics."""
    torch.manual_seed(0)
    network = AlexNet(shrink=16) if backbone == "alexnet" else MobileNetV2(input_size=32)
    encoder = Encoder(network, CodeHead(network.out_features, LITTLE))
    return encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def step_of(config, backbone="mobilenet", on_device=True, device="cpu", processes=ALONE, dtype=torch.float32):
    """A step of a new network."""
    encoder = encoder_of(backbone, device).to(dtype)
    if processes.count > 1:
        share_layers(encoder, processes)
    average = AveragedModel(
        encoder, torch.device(device), multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True
    )
    optimiser = build_optimiser(encoder, config.optimiser, on_device)
    return Step(config, encoder, little_terms, optimiser, average, Tally(device), processes)


def little_batch(seed, count=4):
    """Random pictures and landmarks."""
    random = torch.Generator().manual_seed(seed)
    parts = [
        torch.rand(count, *shape, generator=random)
        for shape in ((3, 240, 240), (46, 2), (46,), (17, 2), (17,))
    ]
    return Batch(parts[0], 240 * parts[1], parts[2], 240 * parts[3], parts[4])


def state_of(step):
    """Everything that an iteration may change, copied."""
    state = {f"encoder.{name}": t.clone() for name, t in step.encoder.state_dict().items()}
    state |= {f"average.{name}": t.clone() for name, t in step.average.state_dict().items()}
    for number, values in step.optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{number}.{name}": t.clone() for name, t in values.items()}
    return state


class Watch(TorchDispatchMode):
    """Raises where a value is asked for, where shapes depend on values, and where numbers become tensors by a copy."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "lift_fresh",
        "equal",
        "unique",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if boolean or any(name.startswith(word) for word in self.FORBIDDEN):
            raise AssertionError(f"{name} would make the host wait for a GPU")
        return func(*args, **(kwargs or {}))

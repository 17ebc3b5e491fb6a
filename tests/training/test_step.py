"""One iteration: the device's decisions are the host's, and nobody waits for them."""

from dataclasses import replace

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mofaface.training.step import Statistics, update_average
from training.little_step import ADADELTA, ADAMW, Watch, encoder_of, little_batch, state_of, step_of

CONFIGS = {"adamw": ADAMW, "adadelta": ADADELTA, "both": replace(ADADELTA, average=0.9)}


def run(step, batches):
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        step(batch)
    return state_of(step)


@pytest.mark.parametrize(
    "backbone, name",
    # AdamW moves MobileNet's weights whose gradient is only rounding, before batch statistics, by whole steps.
    [("alexnet", "adamw"), ("alexnet", "both"), ("mobilenet", "adadelta"), ("mobilenet", "both")],
)
def test_optimisers_of_a_gpu_learn_what_those_of_the_cpu_learn(backbone, name):
    # Batch statistics make small differences large: there the first step with gradients everywhere is compared.
    batches = [little_batch(seed) for seed in range(2 if backbone == "mobilenet" else 5)]
    ours, cpus = (run(step_of(CONFIGS[name], backbone, on_device), batches) for on_device in (True, False))
    start = state_of(step_of(CONFIGS[name], backbone))
    assert ours.keys() == cpus.keys()
    for key, value in cpus.items():
        torch.testing.assert_close(
            ours[key], value, rtol=2e-3, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}"
        )
    moved = [key for key, value in start.items() if key.startswith("encoder.") and (ours[key] != value).any()]
    assert len(moved) > 10


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("backbone", ["mobilenet", "alexnet"])
@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("where", ["image", "landmarks"])
def test_what_is_not_finite_changes_nothing(name, backbone, on_device, where):
    step, good = step_of(CONFIGS[name], backbone, on_device), little_batch(0)
    step(good)
    before = state_of(step)
    bad = replace(good, **{where: torch.full_like(getattr(good, where), float("nan"))})
    step(bad)
    after = state_of(step)
    assert step.tally.skips() == (1, 1)
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    step(good)
    assert all(torch.isfinite(value).all() for value in state_of(step).values())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("backbone", ["mobilenet", "alexnet"])
def test_no_value_is_asked_for(name, backbone):
    step = step_of(CONFIGS[name], backbone)
    batch = little_batch(0)
    step(batch)
    with Watch():
        step(batch)


@pytest.mark.parametrize(
    "asks",
    [
        lambda t: t.sum().item(),
        lambda t: bool((t > 0).all()),
        lambda t: t[t > 0],
        lambda t: torch.tensor([1.0, 2.0]),
        lambda t: t.new_tensor([1.0]),
        lambda t: t.nonzero(),
    ],
)
def test_what_asks_for_a_value_is_noticed(asks):
    with pytest.raises(AssertionError, match="would make the host wait"), Watch():
        asks(torch.rand(3))


@pytest.mark.parametrize("on_device", [True, False])
def test_the_running_average_is_torchs(on_device):
    encoder = encoder_of("mobilenet")
    ours, theirs = (
        AveragedModel(encoder, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True) for _ in range(2)
    )
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in (*encoder.parameters(), *encoder.buffers()):
                tensor.copy_(torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 1)
        update_average(ours, encoder, 0.9, torch.tensor(True), on_device)
        theirs.update_parameters(encoder)
    for (name, value), (_, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        if value.is_floating_point():
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6)
        elif "num_batches" in name:
            assert value == 4  # a number of batches is no average
    assert ours.n_averaged == theirs.n_averaged == 4


def test_statistics_come_back_only_where_they_should():
    norm = torch.nn.BatchNorm2d(3)
    for finite in (True, False):
        before = {name: t.clone() for name, t in norm.state_dict().items()}
        kept = Statistics(norm.buffers())
        norm(torch.rand(2, 3, 4, 4))
        kept.restore_unless(torch.tensor(finite))
        same = [torch.equal(t, before[name]) for name, t in norm.named_buffers()]
        assert same == [not finite] * 3


@pytest.mark.parametrize("backbone", ["mobilenet", "alexnet"])
def test_mixed_precision_is_close_to_float32_and_keeps_its_weights(backbone):
    steps = [step_of(replace(ADADELTA, bfloat16=mixed), backbone, False) for mixed in (False, True)]
    losses = []
    for step in steps:
        run(step, [little_batch(0), little_batch(1)])
        losses.append(step.tally.means())
        assert {p.dtype for p in step.encoder.parameters()} == {torch.float32}
    exact, mixed = losses
    assert mixed == pytest.approx(exact, rel=0.01)
    assert mixed != exact  # the flag does something
    for name, value in state_of(steps[0]).items():
        if name.startswith("encoder.head"):
            torch.testing.assert_close(state_of(steps[1])[name], value, rtol=0.1, atol=0.02)

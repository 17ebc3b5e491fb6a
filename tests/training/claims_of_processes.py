"""What two processes must do as one, proved in each of them: run by torchrun from test_processes.py."""

from dataclasses import replace

import torch
from torch import nn

from mofaface.training.batches import Batch
from mofaface.training.processes import joined_processes
from mofaface.training.shared_layers import share_layers
from training.little_step import ADADELTA, ADAMW, encoder_of, little_batch, state_of, step_of


def part_of(batch, processes):
    """The part of a batch that this process learns from."""
    part = processes.part(len(batch.image))
    return Batch(**{name: tensor[part] for name, tensor in vars(batch).items()})


def learn(step, batches):
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        step(batch)
    return state_of(step), step.tally.means()


def norm_is_that_of_the_whole_batch(processes):
    torch.manual_seed(0)
    ours, torchs = (nn.Sequential(nn.BatchNorm2d(3)) for _ in range(2))
    with torch.no_grad():
        torchs[0].weight.uniform_(), torchs[0].bias.uniform_()
    ours.load_state_dict(torchs.state_dict())
    share_layers(ours, processes)
    x, seen = 3 + torch.randn(4, 3, 5, 6), torch.randn(4, 3, 5, 6)
    whole, mine = x.clone().requires_grad_(), x[processes.part(4)].clone().requires_grad_()
    (torchs(whole) * seen).sum().backward()
    (ours(mine) * seen[processes.part(4)]).sum().backward()
    torch.testing.assert_close(mine.grad, whole.grad[processes.part(4)], rtol=1e-4, atol=1e-5)
    gradients = [parameter.grad for parameter in ours.parameters()]
    processes.average(gradients)
    for found, parameter in zip(gradients, torchs.parameters(), strict=True):
        torch.testing.assert_close(found * processes.count, parameter.grad, rtol=1e-4, atol=1e-5)
    for (name, found), expected in zip(ours.named_buffers(), torchs.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x), rtol=1e-5, atol=1e-6)


def learns_what_one_learns(processes):
    compare(processes, "alexnet", ADADELTA, 4, torch.float32)
    compare(processes, "alexnet", replace(ADAMW, average=0.9), 4, torch.float32)
    # Statistics of four numbers make rounding large; the second step is the first with gradients everywhere.
    compare(processes, "mobilenet", replace(ADADELTA, average=0.9), 2, torch.float64)


def compare(processes, backbone, config, count, dtype):
    """Hold what two processes learn from their parts against what one learns from whole batches."""
    batches = [little_batch(seed) for seed in range(count)]
    batches = [Batch(**{name: t.to(dtype) for name, t in vars(batch).items()}) for batch in batches]
    expected, log = learn(step_of(config, backbone, False, dtype=dtype), batches)
    parts = [part_of(batch, processes) for batch in batches]
    found, ours = learn(step_of(config, backbone, False, processes=processes, dtype=dtype), parts)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=1e-4, atol=2e-6, msg=lambda m, key=key: f"{backbone} {key}: {m}"
        )
    assert all(abs(ours[name] - value) <= 1e-5 * abs(value) for name, value in log.items())
    start = encoder_of(backbone).state_dict()
    assert sum((found[f"encoder.{name}"] != value).any() for name, value in start.items()) > 10


def what_is_not_finite_in_one_is_skipped_by_all(processes):
    step, good = step_of(ADAMW, "mobilenet", False, processes=processes), little_batch(0)
    image = good.image.clone()
    image[3] = float("nan")  # the last process's alone
    step(part_of(good, processes))
    before = state_of(step)
    step(part_of(replace(good, image=image), processes))
    after = state_of(step)
    assert step.tally.skips() == (1, 1)
    assert all(torch.equal(after[key], before[key]) for key in before)


def all_hold_the_same_bits(processes):
    step = step_of(ADAMW, "mobilenet", False, processes=processes)
    learn(step, [part_of(little_batch(seed), processes) for seed in range(3)])
    for tensor in state_of(step).values():
        first = tensor.clone()
        processes.copy_first([first])
        assert torch.equal(first, tensor)


def a_flag_of_one_is_seen_by_all(processes):
    assert processes.any(processes.rank == 1) and not processes.any(False)


def what_differs_is_refused(processes):
    processes.check_same("the corpus", "the same")
    try:
        processes.check_same("the corpus", str(processes.rank))
    except ValueError as error:
        assert "the corpus differs between the processes" in str(error)
    else:
        raise AssertionError("a difference was not noticed")


CLAIMS = (
    norm_is_that_of_the_whole_batch,
    learns_what_one_learns,
    what_is_not_finite_in_one_is_skipped_by_all,
    all_hold_the_same_bits,
    a_flag_of_one_is_seen_by_all,
    what_differs_is_refused,
)


def main():
    torch.set_num_threads(1)
    with joined_processes() as processes:
        assert processes.count == 2
        for claim in CLAIMS:
            claim(processes)
            print(f"{claim.__name__} in {processes.rank}", flush=True)


if __name__ == "__main__":
    main()

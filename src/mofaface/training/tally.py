"""What a run's log is made of, added up where the network is: a GPU is not waited for between two lines."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NAMES = ("loss", "photo", "land", "landmark_px")


class Tally:
    """Sums of an iteration's values since the last reading, and how many iterations were skipped."""

    def __init__(self, device: torch.device | str):
        self._table = torch.zeros(3, len(NAMES), dtype=torch.float64, device=device)
        """Since the last reading: sums of the values that are numbers, how many those are, iterations."""
        self._skips = torch.zeros(3, dtype=torch.int64, device=device)
        """In a row until now; longest row since the last reading; all since then."""

    def add(self, values: Float[Tensor, "names"], finite: Bool[Tensor, ""]) -> None:
        """Keep the values of an iteration, those that are numbers, and whether the network learnt from it."""
        kept = values.double().nan_to_num(0, 0, 0)
        self._table += torch.stack((kept, values.isfinite().double(), torch.ones_like(kept)))
        row, longest, skipped = self._skips.unbind()
        row.add_(1).mul_(~finite)
        longest.copy_(torch.maximum(longest, row))
        skipped.add_(~finite)

    def means(self) -> dict[str, float | None]:
        """Means since the last call, None for what never was a number; empty when nothing was added."""
        sums, counts, iterations = self._table.tolist()
        self._table.zero_()
        if not any(iterations):
            return {}
        return {name: s / n if n else None for name, s, n in zip(NAMES, sums, counts, strict=True)}

    def row(self) -> int:
        """Iterations skipped in a row until now."""
        return int(self._skips[0])

    def state(self) -> dict[str, list[list[float]] | list[int]]:
        """What a checkpoint keeps, so that a resumed run's log goes on where it was."""
        return {"table": self._table.tolist(), "skips": self._skips.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._table.copy_(torch.tensor(state["table"], dtype=torch.float64))
        self._skips.copy_(torch.tensor(state["skips"]))

    def skips(self) -> tuple[int, int]:
        """Iterations skipped since the last call, and the longest row of them, which may have begun before."""
        _, longest, skipped = self._skips.tolist()
        self._skips[1:].zero_()
        return skipped, longest

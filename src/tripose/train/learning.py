"""How any model learns: what is optimised is the business of its task."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from tripose.errors import TriposeError
from tripose.train.config import Optimiser, Run


class Learning(lightning.LightningModule):
    """A model, its optimiser and its learning rates.

    Args:
        config: of the run.
        model: what is trained; parts that the configuration freezes lose their gradients.

    Raises:
        TriposeError: the configuration names a part that the model does not have.
    """

    def __init__(self, config: Run, model: nn.Module) -> None:
        super().__init__()
        self.config: Any = config
        self.model: Any = model
        self._rates = _parameter_groups(model, config.optimiser)

    def rows(self, output: Any, batch: Any) -> Tensor:
        """What validation has to know of a batch: [sample, 1 + figures], the index of the sample first."""
        raise NotImplementedError

    def judge(self, rows: np.ndarray) -> Mapping[str, float]:
        """Figures of rows, a sample's once; the best model has the least `capped_mpjpe_mm`."""
        raise NotImplementedError

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the model's own randomness a function of the batch's number, too: a resumed run repeats it."""
        seed = np.random.SeedSequence((self.config.seed, batch_idx, self.global_rank)).generate_state(1)
        torch.manual_seed(int(seed[0]))

    def configure_optimizers(self) -> Any:
        """AdamW, a linear warm-up, then a cosine that ends at zero, or what was reached."""
        settings: Optimiser = self.config.optimiser
        steps: int = self.config.steps
        warmup = settings.warmup_steps

        def share(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            if settings.schedule == "constant":
                return 1.0
            done: float = min(1.0, (step - warmup) / max(1, steps - warmup))
            return (1 + math.cos(math.pi * done)) / 2

        optimiser = torch.optim.AdamW(self._rates, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm. Lightning's own refuses fused optimisers, which only a gradient scaler could not bear."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def train(self, mode: bool = True) -> Learning:
        """As always, but what is frozen stays in evaluation mode, so that its batch norms do not move."""
        super().train(mode)
        for module in self.model.modules():
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()
        return self


def _parameter_groups(model: nn.Module, settings: Optimiser) -> list[dict[str, Any]]:
    """Freeze what is frozen, sort the rest by learning rate; a parameter goes with the smallest part that holds it."""
    rates: list[tuple[float, float]] = [(settings.lr, settings.weight_decay)]
    part_of: dict[str, int | None] = dict.fromkeys(settings.frozen)
    for group in settings.groups:
        decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
        rates.append((group.lr, decay))
        part_of |= dict.fromkeys(group.parts, len(rates) - 1)
    names = dict(model.named_parameters())
    for part in part_of:
        if not any(_within(name, part) for name in names):
            raise TriposeError(f"optimiser: the model has no part {part!r}; {_nearest(part, names)}")
    sorted_in: list[list[Parameter]] = [[] for _ in rates]
    for name, parameter in names.items():
        holders = [p for p in part_of if _within(name, p)]
        which = part_of[max(holders, key=len)] if holders else 0
        parameter.requires_grad_(which is not None)
        if which is not None:
            sorted_in[which].append(parameter)
    if not any(sorted_in):
        raise TriposeError("optimiser: everything is frozen, nothing is left to train")
    return [
        {"params": own, "lr": lr, "weight_decay": decay}
        for own, (lr, decay) in zip(sorted_in, rates, strict=True)
        if own
    ]


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _nearest(part: str, names: Iterable[str]) -> str:
    parts = sorted({".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count("."))})
    near = difflib.get_close_matches(part, parts, n=1, cutoff=0.4)
    return f"did you mean {near[0]}" if near else f"its parts are {', '.join(p for p in parts if '.' not in p)}"

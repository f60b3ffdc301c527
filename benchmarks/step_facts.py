"""How large a network is and how much a step computes; PyTorch alone, for environments of others too."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["step_facts"]


def step_facts(model: nn.Module, loss_of: Callable[[], torch.Tensor]) -> dict:
    """Weights, multiply-adds of a pass forward and back, version and threads of PyTorch.

    Args:
        model: whose weights are counted.
        loss_of: computes its loss once.
    """
    with FlopCounterMode(display=False) as forward:
        loss = loss_of()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "forward_multiply_adds": forward.get_total_flops() // 2,
        "backward_multiply_adds": backward.get_total_flops() // 2,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }

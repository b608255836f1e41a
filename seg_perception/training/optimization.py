"""Optimizer, moving average and precision of a run."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from seg_perception.errors import DeviceError
from seg_perception.training.config import OptimizerConfig, Precision


def build_optimizer(
    config: OptimizerConfig, network: nn.Module, trained_names: Collection[str]
) -> torch.optim.Optimizer:
    """The optimizer of a configuration.

    Four groups: parameters that start from trained weights have their own rate; norms and biases
    (all of one axis) have no weight decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = (name in trained_names, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {
            'params': groups[is_trained, is_decayed],
            'lr': config.lr * (config.backbone_lr_factor if is_trained else 1.0),
            'weight_decay': config.weight_decay if is_decayed else 0.0,
        }
        for is_trained, is_decayed in sorted(groups)
    ]
    if config.name == 'sgd':
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
        )
    return torch.optim.AdamW(parameters, lr=config.lr)


class MovingAverage:
    """An exponential moving average of a network's weights and statistics.

    The decay grows from 0 to its value over the first steps, so that early averages are not made
    of the start.

    Args:
        network: whose state to follow; copied.
        decay: share of the old average in the new one, 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.state = {name: t.detach().clone() for name, t in network.state_dict().items()}
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, 1.0 - decay)
            else:
                self.state[name].copy_(tensor)


def autocast_dtype(device: torch.device, precision: Precision) -> torch.dtype | None:
    """What mixed precision computes in; None for plain float32.

    Raises:
        DeviceError: the device does not have it.
    """
    if precision == 'fp32' or (precision == 'auto' and device.type != 'cuda'):
        return None
    if device.type != 'cuda':
        raise DeviceError(
            f"training.precision: expected 'fp32' or 'auto' on {device}, got '{precision}'"
        )
    has_bf16 = torch.cuda.is_bf16_supported()
    if precision == 'bf16' and not has_bf16:
        raise DeviceError(
            f"training.precision: {torch.cuda.get_device_name(device)} has no bf16; use 'fp16'"
        )
    return torch.float16 if precision == 'fp16' or not has_bf16 else torch.bfloat16


def freeze_norms(network: nn.Module) -> None:
    """Batch norms go on with the statistics they have; their weights still learn."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()

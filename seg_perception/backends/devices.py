"""Which device and precision a model runs on: taken as asked, or refused with the reason."""

from __future__ import annotations

import re

import torch

from seg_perception.backends.protocol import DTYPES, RunOptions
from seg_perception.errors import ConfigurationError, DeviceError, DeviceLostError


def select_device(device: str = 'auto') -> torch.device:
    """The torch device of a name.

    Args:
        device: ``auto`` (``cuda:0`` where torch can use it, else ``cpu``), ``cpu``, ``cuda`` or
            ``cuda:N``.

    Raises:
        ConfigurationError: another name.
        DeviceError: CUDA is asked for and torch cannot use that device; never another is taken.
        DeviceLostError: that device failed earlier in this process.
    """
    if device == 'cpu' or (device == 'auto' and not torch.cuda.is_available()):
        return torch.device('cpu')
    if device == 'auto':
        device = 'cuda:0'
    match = re.fullmatch(r'cuda(?::(\d{1,3}))?', device)
    if match is None:
        raise ConfigurationError(f"device: expected auto, cpu, cuda or cuda:N, got '{device}'")
    index = int(match[1] or 0)
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= num_devices:
        raise DeviceError(
            f"device: expected '{device}', but torch {torch.__version__} sees "
            f'{_seen(num_devices)}; {_remedy(num_devices)}'
        )
    _check_alive(index)
    return torch.device('cuda', index)


def _check_alive(index: int) -> None:
    """Refuses a device that failed: what is called on it next may end the process."""
    try:
        torch.cuda.synchronize(index)
    except RuntimeError as error:
        raise DeviceLostError(
            f'device: cuda:{index} failed earlier in this process and stays unusable to it '
            f'({str(error).splitlines()[0]}); start the process anew'
        ) from error


def select_dtype(device: torch.device, options: RunOptions) -> torch.dtype:
    """The floating-point type that a torch network runs in on a device.

    Raises:
        DeviceError: the device cannot compute in the precision that is asked for.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == 'cuda' else None
    if options.precision == 'auto':
        # tensor cores came with 7.0; before, fp16 is no faster and sometimes much slower
        has_fast_fp16 = capability is not None and capability >= (7, 0)
        return torch.float16 if has_fast_fp16 else torch.float32
    if options.precision == 'int8':
        raise DeviceError(
            'precision: int8 is for quantised files; torch networks expect auto, fp32, bf16 or, '
            'on a GPU, fp16; make a quantised file with seg-perception export --format onnx --int8'
        )
    if options.precision == 'fp16' and capability is None:
        raise DeviceError(
            'precision: fp16 is for CUDA; on a CPU it is no faster than fp32; use auto or fp32 '
            '(or bf16 where the CPU has AMX or AVX512-BF16)'
        )
    if options.precision == 'bf16' and capability is not None and capability < (8, 0):
        raise DeviceError(
            f'precision: bf16 needs compute capability 8.0, {torch.cuda.get_device_name(device)} '
            f'has {capability[0]}.{capability[1]}; use fp16 or fp32'
        )
    return DTYPES[options.precision]


def device_name(device: torch.device) -> str:
    """The device as people know it, e.g. ``cuda:0 (NVIDIA H200)``."""
    if device.type != 'cuda':
        return str(device)
    return f'{device} ({torch.cuda.get_device_name(device)})'


def _seen(num_devices: int) -> str:
    if num_devices:
        names = (torch.cuda.get_device_name(i) for i in range(num_devices))
        return ', '.join(f'cuda:{i} ({name})' for i, name in enumerate(names))
    if torch.version.cuda is None:
        return 'no CUDA device because it is a build without CUDA'
    return f'no CUDA device (it is built for CUDA {torch.version.cuda})'


def _remedy(num_devices: int) -> str:
    if num_devices:
        return f'use cuda:0 to cuda:{num_devices - 1}, or auto'
    if torch.version.cuda is None:
        return "install torch's CUDA build, or use device 'cpu' or 'auto'"
    return "check the driver with nvidia-smi and CUDA_VISIBLE_DEVICES, or use 'cpu' or 'auto'"

"""How images are prepared, from the config of an image processor of transformers.

The config is read here, without the library: it says everything but the defaults of its class,
which `PROCESSORS` repeats (a test compares them with the library).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn, cast

from seg_perception.errors import ModelCardError
from seg_perception.imaging.resize_plan import Interpolation, Placement, ResizeMode
from seg_perception.models.input_spec import MAX_SIDE_PX, InputSpec

_IMAGENET = {'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225]}
_HALF = {'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]}
_COMMON = {
    'do_resize': True,
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'do_center_crop': False,
}
_BILINEAR, _BICUBIC = 2, 3
_SHORTEST = {'shortest_edge': 800, 'longest_edge': 1333}

PROCESSORS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        name: _COMMON | defaults
        for name, defaults in {
            'Beit': _HALF
            | {
                'size': {'height': 224, 'width': 224},
                'resample': _BICUBIC,
                'crop_size': {'height': 224, 'width': 224},
            },
            'DPT': _HALF | {'size': {'height': 384, 'width': 384}, 'resample': _BICUBIC},
            'Eomt': _IMAGENET
            | {'size': {'shortest_edge': 640, 'longest_edge': 640}, 'resample': _BILINEAR},
            'Mask2Former': _IMAGENET
            | {'size': _SHORTEST, 'resample': _BILINEAR, 'size_divisor': 32},
            'MaskFormer': _IMAGENET
            | {'size': _SHORTEST, 'resample': _BILINEAR, 'size_divisor': 32},
            'MobileNetV2': _HALF
            | {
                'size': {'shortest_edge': 256},
                'resample': _BILINEAR,
                'do_center_crop': True,
                'crop_size': {'height': 224, 'width': 224},
            },
            'MobileViT': _HALF
            | {
                'size': {'shortest_edge': 224},
                'resample': _BICUBIC,
                'do_center_crop': True,
                'crop_size': {'height': 256, 'width': 256},
                'do_flip_channel_order': True,
            },
            'OneFormer': _IMAGENET | {'size': _SHORTEST, 'resample': _BILINEAR},
            'Sam': _IMAGENET
            | {
                'size': {'longest_edge': 1024},
                'resample': _BILINEAR,
                'do_pad': True,
                'pad_size': {'height': 1024, 'width': 1024},
            },
            'Sam2': _IMAGENET | {'size': {'height': 1024, 'width': 1024}, 'resample': _BILINEAR},
            'ViT': _HALF | {'size': {'height': 224, 'width': 224}, 'resample': _BILINEAR},
            'Segformer': _IMAGENET
            | {'size': {'height': 512, 'width': 512}, 'resample': _BILINEAR},
        }.items()
    }
)
"""Defaults of the image processors that are known here, by the first part of their name."""

_SQUARE = frozenset({'Beit', 'DPT', 'Segformer', 'ViT'})
"""Processors that take a size of one number as a square, not as the shorter side."""

_ONE_SIZE = frozenset({'Eomt'})
"""Processors of networks whose knowledge of places is for one size of image, or of window."""

_FILTERS: Mapping[int, Interpolation] = {
    _BILINEAR: 'antialias_bilinear',
    _BICUBIC: 'antialias_bicubic',
}
MAX_ASPECT = 4
"""Where only the shorter side is stated, the longer one may be this many times as long."""


def input_spec_of(document: Mapping[str, Any], where: str) -> InputSpec:
    """What a network wants to be fed, from ``preprocessor_config.json``.

    Args:
        document: the file's content.
        where: what messages start with.

    Raises:
        ModelCardError: a processor that is not known here, or one that does what a card cannot
            say.
    """
    where = f'{where}: preprocessor_config.json'
    name = _processor_name(document, where)
    said = {key: value for key, value in document.items() if value is not None}
    config = {**PROCESSORS[name], **said}
    if not config['do_resize']:
        _refuse(where, 'do_resize', 'true', False, 'the network needs a stated input size')
    resize, size_hw, multiple_of = _size(config, name, where)
    canvas_hw = _crop(config, where) if config['do_center_crop'] else None
    mean, std = _normalisation(config, name, where)
    placement: Placement = 'center'
    if name in ('Eomt', 'Sam') and config.get('do_pad'):  # filled up below and right
        canvas_hw, placement = size_hw, 'corner'
    return InputSpec(
        size_hw=size_hw,
        resize=resize,
        multiple_of=multiple_of,
        mean_rgb=mean,
        std_rgb=std,
        channel_order='bgr' if config.get('do_flip_channel_order') else 'rgb',
        # padding comes before the normalisation there, as black; after it with SAM, as the mean
        pad_rgb=(0.0, 0.0, 0.0) if canvas_hw is not None and name != 'Sam' else None,
        interpolation=_interpolation(config['resample'], where),
        canvas_hw=canvas_hw,
        placement=placement,
        is_scalable=name not in _ONE_SIZE,
    )


def _processor_name(document: Mapping[str, Any], where: str) -> str:
    full = document.get('image_processor_type') or document.get('feature_extractor_type') or ''
    name = str(full)
    for suffix in ('Fast', 'Pil', 'ImageProcessor', 'FeatureExtractor'):
        name = name.removesuffix(suffix)
    if name not in PROCESSORS:
        known = ', '.join(f'{known}ImageProcessor' for known in PROCESSORS)
        _refuse(where, 'image_processor_type', f'one of {known}', full)
    return name


def _size(
    config: Mapping[str, Any], name: str, where: str
) -> tuple[ResizeMode, tuple[int, int], int]:
    """Resize mode, size and multiple."""
    size = config['size']
    if isinstance(size, int) and not isinstance(size, bool):
        size = {'height': size, 'width': size} if name in _SQUARE else {'shortest_edge': size}
    if not isinstance(size, Mapping):
        _refuse(where, 'size', 'a number or a mapping', size)
    multiple_of = int(config.get('size_divisor') or 1) if name != 'DPT' else 1
    if (sides := _sides(size, ('height', 'width'))) is not None:
        if name == 'DPT':
            sides = _dpt_size(config, sides, where)
        return 'stretch', tuple(_up(side, multiple_of) for side in sides), 1  # type: ignore[return-value]
    if (longest_edge := _sides(size, ('longest_edge',))) is not None and name == 'Sam':
        if _sides(config['pad_size'], ('height', 'width')) != longest_edge * 2:
            _refuse(where, 'pad_size', f'a square of {longest_edge[0]} px', config['pad_size'])
        return 'fit', longest_edge * 2, 1  # type: ignore[return-value]
    if (shortest := _sides(size, ('shortest_edge',))) is not None:
        longest = size.get('longest_edge') or config.get('max_size')
        if longest is None:
            longest = min(MAX_ASPECT * shortest[0], MAX_SIDE_PX)
        if not isinstance(longest, int) or longest < shortest[0]:
            _refuse(where, 'size.longest_edge', f'at least {shortest[0]} px', longest)
        return 'shortest_edge', (shortest[0], longest), multiple_of
    return _refuse(where, 'size', 'height and width, or shortest_edge', dict(size))


def _up(side: int, multiple_of: int) -> int:
    return math.ceil(side / multiple_of) * multiple_of


def _sides(size: Mapping[str, Any], names: tuple[str, ...]) -> tuple[int, ...] | None:
    values = tuple(size.get(name) for name in names)
    return cast('tuple[int, ...]', values) if all(type(v) is int for v in values) else None


def _dpt_size(config: Mapping[str, Any], sides: tuple[int, ...], where: str) -> tuple[int, ...]:
    if config.get('keep_aspect_ratio'):
        _refuse(where, 'keep_aspect_ratio', 'false', True)
    if config.get('do_pad') and config.get('size_divisor'):
        _refuse(where, 'do_pad', 'false', True)
    multiple = int(config.get('ensure_multiple_of') or 1)
    return tuple(round(side / multiple) * multiple for side in sides)


def _crop(config: Mapping[str, Any], where: str) -> tuple[int, int]:
    crop = config.get('crop_size')
    if isinstance(crop, int) and not isinstance(crop, bool):
        crop = {'height': crop, 'width': crop}
    sides = _sides(crop, ('height', 'width')) if isinstance(crop, Mapping) else None
    if sides is None:
        _refuse(where, 'crop_size', 'height and width', crop)
    return sides[0], sides[1]


def _normalisation(
    config: Mapping[str, Any], name: str, where: str
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std in pixel units: ``(p * r - m) / s`` is ``(p - m / r) / (s / r)``."""
    rescale = config['rescale_factor'] if config['do_rescale'] else 1.0
    if not isinstance(rescale, (int, float)) or not rescale > 0:
        _refuse(where, 'rescale_factor', 'a positive number', rescale)
    # MobileViT's processor never normalises, whatever its config says
    is_normalised = config['do_normalize'] and name != 'MobileViT'
    means = config['image_mean'] if is_normalised else 0.0
    stds = config['image_std'] if is_normalised else 1.0
    triples = []
    for key, values in (('image_mean', means), ('image_std', stds)):
        numbers = [values] * 3 if isinstance(values, (int, float)) else values
        if not (
            isinstance(numbers, list)
            and len(numbers) == 3
            and all(isinstance(v, (int, float)) for v in numbers)
        ):
            _refuse(where, key, 'three numbers', values)
        triples.append((numbers[0] / rescale, numbers[1] / rescale, numbers[2] / rescale))
    return triples[0], triples[1]


def _interpolation(resample: object, where: str) -> Interpolation:
    if isinstance(resample, int) and resample in _FILTERS:
        return _FILTERS[resample]
    return _refuse(where, 'resample', '2 (bilinear) or 3 (bicubic)', resample)


def _refuse(where: str, field: str, expected: str, actual: object, reason: str = '') -> NoReturn:
    raise ModelCardError(
        f'{where}: {field}: expected {expected}, got {actual!r}'
        + (f'; {reason}' if reason else '')
        + '. Export the model to ONNX, and write a card for that file'
    )

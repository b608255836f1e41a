"""What the pipeline may expect of anything that runs a model.

B batch, C classes, H/W the model's grid (input or output, as said).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.quantise import Quantisation
from seg_perception.structures import ClassTable

Precision = Literal['auto', 'fp32', 'fp16', 'bf16', 'int8']
EngineName = Literal[
    'auto',
    'native',
    'eager',
    'cuda_graph',
    'compile',
    'aot',
    'onnxruntime',
    'tensorrt',
    'openvino',
    'litert',
    'triton',
]
Switch = Literal['auto', 'on', 'off']

DTYPES: Mapping[str, torch.dtype] = {
    'fp32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}
PRECISION_NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a model.

    Attributes:
        device: ``auto`` (a CUDA device where the backend can use one, else the CPU), ``cpu``,
            ``cuda`` or ``cuda:N``. Only ``auto`` chooses; the others are taken or refused.
        precision: ``auto`` is fp16 on CUDA from compute capability 7.0 on, else fp32. Formats
            that carry their own precision accept ``auto`` and the one they have; ``int8`` is
            for quantised files alone.
        engine: what runs the model, a name of ``backends.ENGINES``. ``native`` is the one that
            the file's format is made for: ``eager`` for torch networks, ``onnxruntime`` for
            ``.onnx``, ``litert`` for ``.tflite``. ``auto`` is the quickest of those that are
            installed, measured once per machine and model, see ``backends.selection``.
        channels_last: memory layout of torch networks; ``auto`` is on.
        num_threads: CPU threads of one inference; 0 leaves the library's default. For torch
            this is a setting of the whole process.
        server_timeout_s: how long the server of a model that one runs may take for an answer.
        trust_model_code: allow formats that can execute code when loaded (``.pt2``).

    Raises:
        ConfigurationError: a value that none of the backends knows.
    """

    device: str = 'auto'
    precision: Precision = 'auto'
    engine: EngineName = 'native'
    channels_last: Switch = 'auto'
    num_threads: int = 0
    server_timeout_s: float = 1.0
    trust_model_code: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ('precision', Precision),
            ('engine', EngineName),
            ('channels_last', Switch),
        ):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise ConfigurationError(
                    f'{name}: expected one of {", ".join(get_args(choices))}, got {value!r}'
                )
        if not 0 <= self.num_threads <= 1024:
            raise ConfigurationError(
                f'num_threads: expected 0 (the default) to 1024, got {self.num_threads}'
            )
        if not 0.001 <= self.server_timeout_s <= 3600.0:
            raise ConfigurationError(
                f'server_timeout_s: expected 0.001 to 3600 seconds, got {self.server_timeout_s}'
            )


@dataclass(frozen=True, slots=True, eq=False)
class InstanceOutput:
    """The objects that a model found in one image, on the backend's device; N may be 0.

    Attributes:
        mask_logits_NHW: floating point, positive where the object is, on a grid that tiles the
            model's input like that of `ModelOutput.logits_BCHW`.
        scores_N: floating point, how sure the model is of each, 0 to 1.
        class_ids_N: int64, each one of the classes of its image.
        boxes_xyxy_N4: left, top, right and bottom edge in pixels of the model's input, floating
            point; None where unknown. A mask is empty outside of its box.
        masks_tile_boxes: whether each mask's grid tiles its box instead of the model's input.
        is_panoptic: whether the objects share out the pixels: each pixel belongs to the one of
            the highest score times mask probability (the sigmoid of its logit), be that above one
            half or not, instead of to the surest of those whose logit is positive.

    Raises:
        ValueError: shapes or types that contradict each other.
    """

    mask_logits_NHW: torch.Tensor
    scores_N: torch.Tensor
    class_ids_N: torch.Tensor
    boxes_xyxy_N4: torch.Tensor | None = None
    masks_tile_boxes: bool = False
    is_panoptic: bool = False

    def __post_init__(self) -> None:
        masks, boxes = self.mask_logits_NHW, self.boxes_xyxy_N4
        num_objects = len(self.scores_N)
        if (
            masks.ndim != 3
            or not masks.is_floating_point()
            or not len(masks) == num_objects == len(self.class_ids_N)
            or not self.scores_N.is_floating_point()
            or self.class_ids_N.dtype != torch.int64
            or (boxes is not None and tuple(boxes.shape) != (num_objects, 4))
            or (boxes is None and self.masks_tile_boxes)
        ):
            raise ValueError(
                f'expected floating-point masks (N, H, W), scores (N,), int64 class ids (N,) and '
                f'boxes (N, 4) or None, got {masks.dtype} {tuple(masks.shape)}, '
                f'{self.scores_N.dtype} {tuple(self.scores_N.shape)}, {self.class_ids_N.dtype} '
                f'{tuple(self.class_ids_N.shape)}, {None if boxes is None else tuple(boxes.shape)}'
            )


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What a model gave for a batch, on the backend's device and at the model's own grid.

    Exactly one of logits, labels and instances is there. The tensors may be the backend's own
    buffers: valid until the next ``infer``. They are inference tensors: work on them under
    ``torch.inference_mode``.

    Attributes:
        logits_BCHW: floating-point scores, one channel per class of the card; its grid may be
            coarser than the input's.
        labels_BHW: integer class ids, each one of the card's classes.
        is_probabilities: whether the scores are probabilities already (no softmax needed).
        instances: the objects of each image, one item per image.
        classes: what class ids mean, one table per image, where that is not for the card to say:
            the model takes names from its user. Logits of all images have the same.
    """

    logits_BCHW: torch.Tensor | None = None
    labels_BHW: torch.Tensor | None = None
    is_probabilities: bool = False
    instances: tuple[InstanceOutput, ...] | None = None
    classes: tuple[ClassTable, ...] | None = None

    def __post_init__(self) -> None:
        given = (self.logits_BCHW, self.labels_BHW, self.instances)
        if sum(part is not None for part in given) != 1:
            raise ValueError('expected one of logits, labels and instances')


class Backend(Protocol):
    """A loaded model. One call at a time; calls may come from different threads."""

    @property
    def name(self) -> str:
        """What runs it, e.g. ``torch`` or ``onnxruntime``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it takes its input and leaves its output."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the input it takes."""
        ...

    @property
    def channels_last(self) -> bool:
        """Whether input in channels-last memory format saves a copy."""
        ...

    @property
    def input_hw_fixed(self) -> tuple[int, int] | None:
        """The only input size it takes; None where any fits."""
        ...

    @property
    def max_batch(self) -> int | None:
        """The largest batch it takes; None where memory is the limit."""
        ...

    @property
    def is_capturable(self) -> bool:
        """Whether `infer` only enqueues work of static control flow, as CUDA graphs need it."""
        ...

    @property
    def input_quantisation(self) -> Quantisation | None:
        """How its file stores its input as integers; None where it takes `dtype` alone."""
        ...

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """Runs the model on normalised images, given in `dtype` or by `input_quantisation`.

        On CUDA the work may still be under way when this returns (same stream, as usual).

        Raises:
            InferenceError: the input does not fit or the model failed on it.
        """
        ...

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """Runs the model on zeros of a size, so that the first real frame is not the slow one.

        A ``batch`` above `max_batch` is taken as that.

        Raises:
            InferenceError: as `infer`.
        """
        ...

    def free_caches(self) -> None:
        """Gives back memory that the next `infer` can do without, such as captured graphs."""
        ...

    def close(self) -> None:
        """Frees the model's memory; calling it again does nothing."""
        ...

    def description(self) -> dict[str, str]:
        """What runs where and how, for people: backend, device, precision, threads."""
        ...

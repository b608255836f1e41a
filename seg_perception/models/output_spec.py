"""What a model gives, as its card says: the ``output`` section.

    output:
      kind: queries
      options:                       # only those of the kind; each has a default
        task: panoptic
        score_threshold: 0.5
        thing_classes: [person, car]

Kinds that hold one value or one score per class at every point of a grid:

- ``logits``: (B, C, H, W); softmax gives probabilities.
- ``probabilities``: the same, already softmaxed.
- ``labels``: (B, H, W) class ids; no confidence can be had.

Kinds of networks that look for what their user asks for; the card's classes are but background
(and ``object``):

- ``prompts``: masks of what boxes and points show, named as the prompts are.
- ``words``: scores of words, at every point of a grid.

Kinds that have to be decoded, with all tensors of the graph in this order:

- ``queries``: class logits (B, Q, C + 1), the last for "no object", and mask logits (B, Q, H, W),
  as Mask2Former, MaskFormer, OneFormer and EoMT give them. Options: ``task``,
  ``score_threshold``, ``overlap_threshold``, ``max_objects``, ``thing_classes``, ``mask_hw``.
- ``yolo_seg``: boxes with mask coefficients, and mask prototypes (B, M, H, W), as YOLO
  segmentation models are exported; see ``backends.decoders.yolo_seg``. Options:
  ``score_threshold``, ``iou_threshold``, ``max_objects``.
- ``detections``: per image boxes (N, 4), class ids (N), scores (N) and mask probabilities
  (N, 1, H, W), as torchvision's Mask R-CNN gives them. Options: ``masks``, ``score_threshold``,
  ``max_objects``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast, get_args

from seg_perception.models.card_fields import Fields, check_choice, fail
from seg_perception.structures import MAX_OBJECTS

OutputKind = Literal[
    'logits',
    'probabilities',
    'labels',
    'prompts',
    'words',
    'queries',
    'yolo_seg',
    'detections',
]
Task = Literal['semantic', 'instance', 'panoptic']
MaskExtent = Literal['image', 'box']

OPTIONS_BY_KIND: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        'queries': frozenset(
            {
                'task',
                'score_threshold',
                'overlap_threshold',
                'max_objects',
                'thing_classes',
                'mask_hw',
            }
        ),
        'yolo_seg': frozenset({'score_threshold', 'iou_threshold', 'max_objects'}),
        'detections': frozenset({'masks', 'score_threshold', 'max_objects'}),
    }
)
"""What a card may say under ``output.options``, by kind; nothing for the kinds left out."""


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How objects are read from what the model gives; each kind looks at its own options.

    Attributes:
        task: ``semantic`` (a class for every pixel), ``instance`` (objects) or ``panoptic``
            (both).
        score_threshold: objects less sure than this are left out, 0 to 1.
        iou_threshold: of boxes of one class that overlap by more than this share of their union
            the surest is kept, where the graph has not seen to that.
        overlap_threshold: panoptic segments that keep less than this share of their own mask,
            once the pixels are shared out, are left out.
        max_objects: how many are kept at most, the surest first.
        thing_classes: names of the classes whose panoptic segments are objects; all where empty.
        mask_hw: size that query masks are brought to before anything else (Mask2Former's own
            post-processing uses 384 x 384); as they are where None.
        masks: whether the masks of detections cover the whole ``image`` or each its ``box``.

    Raises:
        ModelCardError: a value is out of its range.
    """

    task: Task = 'semantic'
    score_threshold: float = 0.5
    iou_threshold: float = 0.7
    overlap_threshold: float = 0.8
    max_objects: int = 100
    thing_classes: tuple[str, ...] = ()
    mask_hw: tuple[int, int] | None = None
    masks: MaskExtent = 'image'

    def __post_init__(self) -> None:
        where = 'output.options'
        check_choice(f'{where}.task', self.task, get_args(Task))
        check_choice(f'{where}.masks', self.masks, get_args(MaskExtent))
        for name in ('score_threshold', 'iou_threshold', 'overlap_threshold'):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                fail(f'{where}.{name}', 'a number of 0 to 1', value)
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            fail(f'{where}.max_objects', f'1 to {MAX_OBJECTS}', self.max_objects)
        if self.mask_hw is not None and (len(self.mask_hw) != 2 or min(self.mask_hw) < 1):
            fail(f'{where}.mask_hw', '[height, width], each at least 1', self.mask_hw)
        if self.thing_classes and self.task != 'panoptic':
            fail(f'{where}.thing_classes', f'none for the task {self.task}', self.thing_classes)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What the model gives.

    Attributes:
        kind: see this module.
        align_corners: how scores are to be upsampled, as in ``torch.nn.functional.interpolate``.
        temperature: logits are divided by it before the softmax that gives the confidence, so
            that 0.8 means right in 80 of 100 pixels (C. Guo et al., arXiv:1706.04599). Labels do
            not depend on it.
        options: for kinds that are decoded.

    Raises:
        ModelCardError: an unknown kind, or a temperature that cannot be.
    """

    kind: OutputKind = 'logits'
    align_corners: bool = False
    temperature: float = 1.0
    options: DecodingOptions = DecodingOptions()

    def __post_init__(self) -> None:
        check_choice('output.kind', self.kind, get_args(OutputKind))
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            fail('output.temperature', 'a positive number', self.temperature)
        if self.temperature != 1.0 and self.kind not in ('logits', 'words'):
            fail('output.temperature', f'none, because {self.kind} have none', self.temperature)

    @property
    def has_scores(self) -> bool:
        """Whether confidence can be had."""
        return self.kind != 'labels'

    @property
    def is_asked(self) -> bool:
        """Whether the model looks for what its user asks for, and so has no classes of its own."""
        return self.kind in ('prompts', 'words')

    @property
    def gives_objects(self) -> bool:
        """Whether the model tells objects apart itself."""
        is_semantic = self.kind == 'queries' and self.options.task == 'semantic'
        return self.kind in (*OPTIONS_BY_KIND, 'prompts') and not is_semantic


def read_output_spec(section: Fields) -> OutputSpec:
    """Reads a card's ``output`` section.

    Raises:
        ModelCardError: an unknown field, an option of another kind, or a value that cannot be.
    """
    kind = section.text('kind', 'logits')
    check_choice('output.kind', kind, get_args(OutputKind))
    options = section.section('options', optional=True)
    known = OPTIONS_BY_KIND.get(kind, frozenset())
    for name in options.names():
        if name not in known:
            fail(
                f'output.options.{name}',
                f'one of {", ".join(sorted(known))}' if known else f'no options for {kind}',
                'an unknown one',
            )
    default = DecodingOptions()
    mask_hw = options.integers('mask_hw') if options.has('mask_hw') else None
    spec = OutputSpec(
        kind=cast(OutputKind, kind),
        align_corners=section.boolean('align_corners', False),
        temperature=section.number('temperature', 1.0),
        options=DecodingOptions(
            task=cast(Task, options.text('task', default.task)),
            score_threshold=options.number('score_threshold', default.score_threshold),
            iou_threshold=options.number('iou_threshold', default.iou_threshold),
            overlap_threshold=options.number('overlap_threshold', default.overlap_threshold),
            max_objects=cast(int, options.integer('max_objects', default.max_objects)),
            thing_classes=options.texts('thing_classes', ()),
            mask_hw=cast('tuple[int, int] | None', mask_hw),
            masks=cast(MaskExtent, options.text('masks', default.masks)),
        ),
    )
    section.finish()
    return spec

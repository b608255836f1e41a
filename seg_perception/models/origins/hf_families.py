"""Which models of transformers are known here, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from seg_perception.errors import ModelCardError, ModelNotFoundError
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.output_spec import DecodingOptions, OutputSpec, Task
from seg_perception.structures import ClassTable


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of model.

    Attributes:
        title: what people call it.
        class_name: transformers' class for it, with its segmentation head.
        kind: ``logits`` for one score per class and pixel, ``queries`` for class and mask logits
            per query, ``prompts`` and ``words`` for what looks for what it is asked.
        mask_hw: what the library's post-processing brings the masks of queries to before anything
            else: a size, that of the network's ``input``, or None where it leaves them.
        has_task_input: whether the network is told what to do with a sentence.
        also_written_as: other classes of the library whose weights this one reads too.
    """

    title: str
    class_name: str
    kind: Literal['logits', 'queries', 'prompts', 'words'] = 'logits'
    mask_hw: tuple[int, int] | Literal['input'] | None = None
    has_task_input: bool = False
    also_written_as: tuple[str, ...] = ()

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the network reads text."""
        return self.has_task_input or self.kind == 'words'


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        'beit': Family('BEiT', 'BeitForSemanticSegmentation'),
        'data2vec-vision': Family('Data2Vec', 'Data2VecVisionForSemanticSegmentation'),
        'dpt': Family('DPT', 'DPTForSemanticSegmentation'),
        'mobilenet_v2': Family('DeepLabV3 MobileNetV2', 'MobileNetV2ForSemanticSegmentation'),
        'mobilevit': Family('DeepLabV3 MobileViT', 'MobileViTForSemanticSegmentation'),
        'mobilevitv2': Family('DeepLabV3 MobileViTV2', 'MobileViTV2ForSemanticSegmentation'),
        'segformer': Family('SegFormer', 'SegformerForSemanticSegmentation'),
        'upernet': Family('UperNet', 'UperNetForSemanticSegmentation'),
        'eomt': Family('EoMT', 'EomtForUniversalSegmentation', 'queries', 'input'),
        'mask2former': Family(
            'Mask2Former', 'Mask2FormerForUniversalSegmentation', 'queries', (384, 384)
        ),
        'maskformer': Family('MaskFormer', 'MaskFormerForInstanceSegmentation', 'queries'),
        'oneformer': Family(
            'OneFormer', 'OneFormerForUniversalSegmentation', 'queries', has_task_input=True
        ),
        'sam': Family('SAM', 'SamModel', 'prompts'),
        'sam2': Family('SAM 2', 'Sam2Model', 'prompts'),
        'sam2_video': Family('SAM 2', 'Sam2Model', 'prompts', also_written_as=('Sam2VideoModel',)),
        'clipseg': Family('CLIPSeg', 'CLIPSegForImageSegmentation', 'words'),
    }
)
"""By ``model_type`` of their config."""

TOKENIZER_FILES = ('tokenizer_config.json', 'vocab.json', 'merges.txt', 'tokenizer.json')
"""What makes tokens of a sentence; not every model has all of them."""

ASKED_CLASSES: Mapping[str, ClassTable] = MappingProxyType(
    {'prompts': ClassTable(('background', 'object')), 'words': ClassTable(('background',))}
)
"""By kind, what stands on the card of a model whose user brings the names."""

CITYSCAPES_THINGS = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
NUM_COCO_PANOPTIC, NUM_COCO_THINGS = 133, 80


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """What a config describes.

    Raises:
        ModelCardError: another kind of model, or one without a segmentation head.
    """
    model_type = config.get('model_type')
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    known = ', '.join(f'{f.title} ({name})' for name, f in FAMILIES.items())
    if family is None:
        raise ModelCardError(
            f'{where}: config.json: model_type: expected one of {known}, got {model_type!r}; '
            f'export the model to ONNX and give that file'
        )
    classes = config.get('architectures') or []
    if not {family.class_name, *family.also_written_as} & set(map(str, classes)):
        raise ModelCardError(
            f'{where}: config.json: architectures: expected {family.class_name}, which has a '
            f'segmentation head, got {", ".join(map(str, classes)) or "none"}'
        )
    return family


def output_spec(
    family: Family,
    classes: ClassTable,
    spec: InputSpec,
    task: str,
    name: str,
    *,
    has_windows: bool = False,
) -> OutputSpec:
    """What a model of a family gives.

    Args:
        family: the model's.
        classes: the model's.
        spec: the model's input.
        task: what the user wants of queries; '' for what ``name`` says, else semantic.
        name: what the model is called; ``semantic``, ``instance`` or ``panoptic`` in it is what it
            was trained for, which its config does not say.
        has_windows: whether the network looks at an image part by part; that gives scores.

    Raises:
        ModelNotFoundError: there is no such task, or the family has none.
    """
    tasks = get_args(Task)
    if family.kind in ('prompts', 'words'):
        if task:
            raise ModelNotFoundError(f'#{task}: expected nothing, {family.title} has no tasks')
        return OutputSpec(family.kind)
    if family.kind == 'logits':
        if task not in ('', 'semantic'):
            raise ModelNotFoundError(
                f'#{task}: expected nothing or #semantic, which is what {family.title} does'
            )
        return OutputSpec('logits')
    if task and task not in tasks:
        raise ModelNotFoundError(f'#{task}: expected #{", #".join(tasks)}')
    chosen = task or next((t for t in tasks if t in name.lower()), 'semantic')
    if has_windows:
        if chosen != 'semantic':
            raise ModelNotFoundError(
                f'#{chosen}: expected #semantic, because this {family.title} looks at images part '
                f'by part (do_split_image)'
            )
        return OutputSpec('probabilities')
    options = DecodingOptions(
        task=cast(Task, chosen),
        mask_hw=spec.canvas_hw or spec.size_hw if family.mask_hw == 'input' else family.mask_hw,
        thing_classes=_things(classes) if chosen == 'panoptic' else (),
    )
    return OutputSpec('queries', options=options)


def _things(classes: ClassTable) -> tuple[str, ...]:
    """The countable classes of label sets that are known; () where all may be."""
    if len(classes) == NUM_COCO_PANOPTIC and classes.names[0] == 'person':
        return classes.names[:NUM_COCO_THINGS]
    if set(CITYSCAPES_THINGS) < set(classes.names) and len(classes) <= 20:
        return CITYSCAPES_THINGS
    return ()

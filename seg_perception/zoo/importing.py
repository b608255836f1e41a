"""Makes the card of a model that has none: what its files say, and answers to what they do not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.models.card import ModelCard, WeightsFormat, WeightsSource, load_card
from seg_perception.models.card_writing import card_text
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.weights import sha256_of
from seg_perception.pipeline import Segmenter
from seg_perception.structures import ClassTable
from seg_perception.whole_file import write_whole
from seg_perception.zoo.inspection import Finding, Triple, output_spec

NUMBERED = 'numbered'
"""Instead of class names: class_0, class_1, …"""

PREPROCESSING: dict[str, tuple[Triple, Triple]] = {
    'imagenet': ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    'unit': ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    'signed': ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    'raw': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and std by what networks are commonly fed: the statistics of ImageNet, 0 to 1, -1 to 1, or
pixels as they are."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What somebody said of a model; None where nothing.

    Attributes:
        classes: a file of names, one a line; names separated by commas; or ``numbered``.
        preprocessing: a name of `PREPROCESSING`.
        mean_rgb: instead of it, for pixels of 0 to 255.
        std_rgb: instead of it.
        size_wh: the network's input, pixels.
        kind: ``logits``, ``probabilities`` or ``labels``.
        licence: SPDX expression of the weights' licence.
        resize: ``stretch``, ``letterbox`` or ``fit``.
        multiple_of: what sides are multiples of, with ``fit``.
        channel_order: ``rgb`` or ``bgr``.
        align_corners: how logits are to be upsampled.
        name: the card's.
        summary: the card's.
        source: the card's.
    """

    classes: str | None = None
    preprocessing: str | None = None
    mean_rgb: Triple | None = None
    std_rgb: Triple | None = None
    size_wh: tuple[int, int] | None = None
    kind: str | None = None
    licence: str | None = None
    resize: str = 'stretch'
    multiple_of: int = 1
    channel_order: str = 'rgb'
    align_corners: bool = False
    name: str | None = None
    summary: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Something that neither the files nor the answers say.

    Attributes:
        flags: how to answer on the command line.
        text: for people.
        read: puts a typed answer to the others.
    """

    flags: str
    text: str
    read: Callable[[Answers, str], Answers]


def open_questions(finding: Finding, answers: Answers) -> list[Question]:
    """What is still to be asked before there can be a card."""
    if finding.card is not None:
        return []
    questions = []
    if not (answers.classes or finding.class_names):
        count = '' if finding.num_classes is None else f'{finding.num_classes} '
        questions.append(
            Question(
                '--classes FILE|NAME,NAME,…|numbered',
                f'names of its {count}classes (a file with one a line, or separated by commas)',
                lambda a, text: dataclasses.replace(a, classes=text),
            )
        )
    has_own = answers.mean_rgb is not None and answers.std_rgb is not None
    if not (answers.preprocessing or has_own or finding.mean_std):
        questions.append(
            Question(
                f'--preprocessing {"|".join(PREPROCESSING)}, or --mean R G B --std R G B',
                'what its images were scaled to in training: imagenet (its mean and std), unit '
                '(0 to 1), signed (-1 to 1) or raw (0 to 255)',
                lambda a, text: dataclasses.replace(a, preprocessing=text),
            )
        )
    if answers.size_wh is None and finding.input_hw is None:
        questions.append(
            Question(
                '--size WIDTH HEIGHT',
                'width and height of its input in pixels, e.g. 512 512',
                _with_size,
            )
        )
    if not (answers.kind or finding.kind):
        questions.append(
            Question(
                '--kind logits|probabilities|labels',
                'what it gives: logits, probabilities (after softmax) or labels (after argmax)',
                lambda a, text: dataclasses.replace(a, kind=text),
            )
        )
    if not answers.licence:
        questions.append(
            Question(
                '--licence SPDX',
                'licence of its weights, e.g. Apache-2.0, or "unknown"',
                lambda a, text: dataclasses.replace(a, licence=text),
            )
        )
    return questions


def make_card(finding: Finding, answers: Answers) -> ModelCard:
    """The card of a model.

    Raises:
        ConfigurationError: an answer is missing or contradicts the model; names the flags.
        ModelCardError: an answer that cannot be.
    """
    if finding.card is not None:
        return finding.card
    if questions := open_questions(finding, answers):
        flags = '; '.join(question.flags for question in questions)
        raise ConfigurationError(
            f'{finding.path.name}: expected answers to what the file does not say, got none for: '
            f'{flags}'
        )
    names = _class_names(finding, answers)
    mean, std = _mean_std(finding, answers)
    size_hw = (answers.size_wh[1], answers.size_wh[0]) if answers.size_wh else finding.input_hw
    assert size_hw is not None
    if finding.input_hw not in (None, size_hw):
        raise ConfigurationError(
            f'--size: expected {finding.input_hw[1]} {finding.input_hw[0]}, the only size that '
            f'{finding.path.name} takes, got {size_hw[1]} {size_hw[0]}'
        )
    match = finding.match
    stem = re.sub(r'[^a-z0-9_.+-]', '_', finding.path.stem.lower()).lstrip('_.+-')
    kind = answers.kind or finding.kind
    what = match.architecture if match else finding.weights_format
    return ModelCard(
        name=answers.name or stem or 'model',
        summary=answers.summary or f'{what}, {len(names)} classes, imported',
        architecture=match.architecture if match else None,
        architecture_options=match.options if match else {},
        weights=WeightsSource(
            uri=str(finding.path),
            sha256=sha256_of(finding.path),
            size_bytes=finding.path.stat().st_size,
            format=cast(WeightsFormat, finding.weights_format),
            key_map=match.key_map if match else {},
            drop_prefixes=match.drop_prefixes if match else (),
        ),
        input=InputSpec(
            size_hw,
            resize=cast(Any, answers.resize),
            multiple_of=answers.multiple_of,
            mean_rgb=mean,
            std_rgb=std,
            channel_order=cast(Any, answers.channel_order),
        ),
        output=output_spec(kind, align_corners=answers.align_corners),
        classes=ClassTable(names),
        licence=answers.licence or '',
        source=answers.source or f'imported from {finding.path.name}',
    )


def try_card(card: ModelCard, *, trust_model_code: bool = False) -> str:
    """Runs the model once as its card says; what ran it, for people.

    Raises:
        SegPerceptionError: it cannot be run, or gives what the card does not say.
    """
    with Segmenter(card, trust_model_code=trust_model_code) as segmenter:
        segmenter.warm_up()
        return ', '.join(f'{k} {v}' for k, v in segmenter.description().items())


def write_card_file(card: ModelCard, path: Path, *, replace: bool = False) -> ModelCard:
    """Writes a card and reads it back; its weights are named from where it lies.

    Raises:
        ConfigurationError: there is a file already and ``replace`` is off.
        WeightsError: it cannot be written.
    """
    path = path.expanduser().absolute()
    if path.exists() and not replace:
        raise ConfigurationError(f'{path}: is there already; give another -o, or --force')
    weights = Path(card.weights.uri)
    if weights.is_absolute() and weights.is_relative_to(path.parent):
        relative = str(weights.relative_to(path.parent))
        card = dataclasses.replace(card, weights=dataclasses.replace(card.weights, uri=relative))
    write_whole(path, card_text(card).encode('utf-8'))
    return load_card(path)


def _class_names(finding: Finding, answers: Answers) -> tuple[str, ...]:
    names = finding.class_names
    if answers.classes is not None:
        names = _read_names(finding, answers.classes)
    if finding.num_classes is not None and len(names) != finding.num_classes:
        raise ConfigurationError(
            f'--classes: expected {finding.num_classes} names, one per class of '
            f'{finding.path.name}, got {len(names)}: {", ".join(names[:5])} …'
        )
    return names


def _read_names(finding: Finding, text: str) -> tuple[str, ...]:
    if text == NUMBERED:
        if finding.num_classes is None:
            raise ConfigurationError(
                f'--classes: expected names, because {finding.path.name} does not say how many '
                f'classes it has, got {NUMBERED}'
            )
        return tuple(f'class_{i}' for i in range(finding.num_classes))
    path = Path(text).expanduser()
    if not path.is_file():
        return tuple(name.strip() for name in text.split(',') if name.strip())
    content = path.read_text(encoding='utf-8')
    if path.suffix.lower() in ('.yaml', '.yml', '.json'):
        values = yaml.safe_load(content)
        values = values.get('names') if isinstance(values, dict) else values
        values = list(values.values()) if isinstance(values, dict) else values
        if not isinstance(values, list):
            raise ConfigurationError(f'{path}: expected a list of names, or one under "names"')
        return tuple(str(value) for value in values)
    return tuple(line.strip() for line in content.splitlines() if line.strip())


def _mean_std(finding: Finding, answers: Answers) -> tuple[Triple, Triple]:
    if answers.mean_rgb is not None and answers.std_rgb is not None:
        return answers.mean_rgb, answers.std_rgb
    if answers.preprocessing is None:
        assert finding.mean_std is not None
        return finding.mean_std
    if answers.preprocessing not in PREPROCESSING:
        raise ConfigurationError(
            f'--preprocessing: expected one of {", ".join(PREPROCESSING)}, got '
            f"'{answers.preprocessing}'"
        )
    return PREPROCESSING[answers.preprocessing]


def _with_size(answers: Answers, text: str) -> Answers:
    numbers: Sequence[str] = re.findall(r'\d+', text)
    if len(numbers) != 2:
        raise ConfigurationError(f"--size: expected width and height, got '{text}'")
    return dataclasses.replace(answers, size_wh=(int(numbers[0]), int(numbers[1])))

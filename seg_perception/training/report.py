"""A report of an evaluation for people: Markdown with pictures, and the figures as JSON.

Pictures are drawn with matplotlib's Agg, which needs no display.

C classes, Y/X image pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import MissingExtraError
from seg_perception.models.card import ModelCard
from seg_perception.pipeline import Segmenter
from seg_perception.structures import U8, ClassTable, Labels
from seg_perception.training.datasets import SegmentationDataset
from seg_perception.training.evaluation import Evaluation, ImageScore
from seg_perception.whole_file import write_whole

REPORT_FILE = 'report.md'
FIGURES_FILE = 'metrics.json'
NUM_EXAMPLES = 3
_MAX_NAMED_CLASSES = 40
"""Above this, the confusion matrix shows ids instead of names."""


def write_report(
    evaluation: Evaluation,
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    out_dir: str | Path,
    *,
    log: Sequence[dict[str, Any]] = (),
) -> Path:
    """Writes ``report.md``, ``metrics.json`` and the pictures; returns the former's path.

    Args:
        evaluation: what was measured.
        segmenter: the model, for the examples.
        dataset: what it was measured on.
        out_dir: made where it is missing.
        log: records of the training, for its curves; none for none.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('matplotlib', 'train', 'draw the report') from error
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(evaluation.summary(), indent=1, allow_nan=False)
    write_whole(out_dir / FIGURES_FILE, figures.encode('utf-8'))
    draw_class_iou(evaluation, out_dir / 'class_iou.png')
    draw_confusion(evaluation, out_dir / 'confusion.png')
    pictures = [
        ('Class IoU', 'class_iou.png'),
        ('Confusion: rows are the truth, each row sums to 100 %', 'confusion.png'),
    ]
    if log:
        draw_curves(log, out_dir / 'curves.png')
        pictures.insert(0, ('Training', 'curves.png'))
    ranked = sorted(
        (i for i in evaluation.images if not math.isnan(i.mean_iou)), key=lambda i: -i.mean_iou
    )
    num_best = min(NUM_EXAMPLES, len(ranked))
    groups = (('best', ranked[:num_best]), ('worst', ranked[num_best:][-NUM_EXAMPLES:][::-1]))
    for name, scores in groups:
        if scores:
            file = f'{name}.png'
            draw_examples(scores, segmenter, dataset, out_dir / file)
            pictures.append((f'The {name} images: input, truth, prediction, mistakes', file))
    text = _markdown(evaluation, segmenter.card, pictures)
    write_whole(out_dir / REPORT_FILE, text.encode('utf-8'))
    return out_dir / REPORT_FILE


def draw_class_iou(evaluation: Evaluation, path: Path) -> None:
    """A bar per class, best first."""
    iou_C = np.asarray(evaluation.metrics.class_iou, float)
    order = np.argsort(np.where(np.isnan(iou_C), -1.0, iou_C))
    names = [evaluation.classes.names[i] for i in order]
    figure, axes = _figure(7.0, 1.2 + 0.28 * len(order))
    colors = [np.array(evaluation.classes.colors_rgb[i]) / 255.0 for i in order]
    values = np.nan_to_num(iou_C[order])
    axes.barh(names, values, color=colors, edgecolor='0.3', linewidth=0.5)
    for y, index in enumerate(order):
        text = 'absent' if math.isnan(iou_C[index]) else f'{iou_C[index]:.3f}'
        axes.text(values[y] + 0.01, y, text, va='center', fontsize=8)
    axes.axvline(evaluation.mean_iou, color='0.2', linestyle='--', linewidth=1)
    axes.set(xlim=(0, 1.12), xlabel='IoU', title=f'mean IoU {evaluation.mean_iou:.3f} (dashed)')
    figure.savefig(path)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """The confusion matrix, each row divided by the pixels of its true class."""
    counts_CC = np.asarray(evaluation.metrics.confusion, float)
    shares_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1.0)
    num_classes = len(evaluation.classes)
    side = max(4.5, 0.42 * min(num_classes, _MAX_NAMED_CLASSES) + 2.0)
    figure, axes = _figure(side + 0.8, side)
    image = axes.imshow(shares_CC, cmap='Blues', vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, shrink=0.8, label='share of the true pixels')
    if num_classes <= _MAX_NAMED_CLASSES:
        axes.set_xticks(range(num_classes), evaluation.classes.names, rotation=60, ha='right')
        axes.set_yticks(range(num_classes), evaluation.classes.names)
        for (row, column), share in np.ndenumerate(shares_CC):
            if share >= 0.005:
                color = 'white' if share > 0.5 else 'black'
                axes.text(
                    column, row, f'{100 * share:.0f}',
                    ha='center', va='center', fontsize=7, color=color,
                )  # fmt: skip
    axes.set(xlabel='predicted', ylabel='true')
    figure.savefig(path)


def draw_curves(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss, learning rate and validation mIoU over the steps."""
    losses = [record for record in log if record['kind'] == 'loss']
    validations = [record for record in log if record['kind'] == 'validation']
    figure, (left, right) = _figure(10.0, 3.6, num_columns=2)
    steps = [record['step'] for record in losses]
    left.plot(steps, [record['loss'] for record in losses], color='tab:blue', linewidth=1)
    left.set(xlabel='step', ylabel='training loss')
    rates = left.twinx()
    rates.plot(steps, [record['lr'] for record in losses], color='0.6', linewidth=1)
    rates.set_ylabel('learning rate', color='0.4')
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis='y', style='sci', scilimits=(-2, 2))
    steps = [record['step'] for record in validations]
    right.plot(
        steps, [record['mean_iou'] for record in validations], 'o-', label='mean IoU', markersize=4
    )
    right.plot(
        steps,
        [record['pixel_accuracy'] for record in validations],
        'o-',
        label='pixel accuracy',
        markersize=4,
    )
    right.set(xlabel='step', ylabel='validation', ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend(loc='lower right')
    figure.savefig(path)


def draw_examples(
    scores: Sequence[ImageScore],
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    path: Path,
) -> None:
    """A row per image: input, truth, prediction, and where they differ."""
    titles = ('input', 'truth', 'prediction', 'mistakes')
    figure, grid = _figure(12.0, 2.6 * len(scores), num_rows=len(scores), num_columns=4)
    for row, score in zip(np.atleast_2d(grid), scores, strict=True):
        sample = dataset[score.index]
        [result] = segmenter.segment([sample.image_YX3], confidence=False)
        ignored = sample.labels_YX == dataset.ignore_id
        wrong = (result.labels_YX != sample.labels_YX) & ~ignored
        classes = dataset.classes
        pictures = (
            sample.image_YX3,
            colored(sample.image_YX3, sample.labels_YX, classes, ignored),
            colored(sample.image_YX3, result.labels_YX, classes),
            _mistakes(sample.image_YX3, wrong, ignored),
        )
        for axes, picture, title in zip(row, pictures, titles, strict=True):
            axes.imshow(picture)
            axes.set_title(title, fontsize=8)
            axes.set_axis_off()
        row[0].set_title(f'{score.name}: mIoU {score.mean_iou:.3f}', fontsize=8)
    figure.savefig(path)


def colored(
    image_YX3: U8,
    labels_YX: Labels,
    classes: ClassTable,
    ignored_YX: npt.NDArray[np.bool_] | None = None,
) -> U8:
    """Class colours over the grey image; what is ignored is darkened."""
    grey = cv2.cvtColor(image_YX3, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    colors = classes.palette_rgb()[labels_YX].astype(np.float32)
    mixed = 0.35 * grey + 0.65 * colors
    if ignored_YX is not None:
        mixed[ignored_YX] = np.broadcast_to(0.25 * grey, mixed.shape)[ignored_YX]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _mistakes(
    image_YX3: U8, wrong_YX: npt.NDArray[np.bool_], ignored_YX: npt.NDArray[np.bool_]
) -> U8:
    grey = cv2.cvtColor(image_YX3, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((grey // 2 + 96)[..., None], 3, 2)
    picture[wrong_YX] = (220, 30, 30)
    picture[ignored_YX] = picture[ignored_YX] // 3
    return np.asarray(picture, np.uint8)


def _figure(
    width: float, height: float, *, num_rows: int = 1, num_columns: int = 1
) -> tuple[Any, Any]:
    # Without pyplot there is no state that outlives the figure and no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns)


def _markdown(evaluation: Evaluation, card: ModelCard, pictures: Sequence[tuple[str, str]]) -> str:
    metrics = evaluation.metrics
    rows = [
        ('images', str(len(evaluation.images))),
        ('mean IoU', _number(metrics.mean_iou)),
        ('pixel accuracy', _number(metrics.pixel_accuracy)),
        ('frequency-weighted IoU', _number(metrics.frequency_weighted_iou)),
        ('boundary F1', _number(metrics.boundary_f1)),
        ('calibration error (ECE)', _number(metrics.ece)),
        ('temperature', f'{card.output.temperature:g}'),
        ('network input', f'{card.input.size_hw[0]}x{card.input.size_hw[1]}, {card.input.resize}'),
        *((key, value) for key, value in evaluation.model.items() if key != 'model'),
    ]
    counts_C = np.asarray(metrics.confusion, float).sum(1)
    shares_C = counts_C / max(counts_C.sum(), 1.0)
    lines = [
        f'# {card.name} on {evaluation.dataset or "a dataset"}',
        '',
        card.summary,
        '',
        'Measured through the pipeline that the node runs, on label images of the size of the '
        'input. Licence of the weights: ' + card.licence + '.',
        '',
        '| | |',
        '|---|---|',
        *(f'| {name} | {value} |' for name, value in rows),
        '',
        '| class | IoU | share of the pixels |',
        '|---|---|---|',
        *(
            f'| {name} | {_number(iou)} | {100 * share:.2f} % |'
            for name, iou, share in zip(
                evaluation.classes.names, metrics.class_iou, shares_C, strict=True
            )
        ),
        '',
    ]
    for title, file in pictures:
        lines += [f'## {title}', '', f'![{title}]({file})', '']
    return '\n'.join(lines)


def _number(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return '–'
    return f'{float(value):.4f}'  # type: ignore[arg-type]

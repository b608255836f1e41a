"""How much of the images each class takes, over time: a table and a picture.

Legend: C classes and one for unlabelled, T periods of time.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, MissingExtraError
from seg_perception.recordings.cameras import CameraTopic
from seg_perception.recordings.plan import Job
from seg_perception.structures import BACKGROUND_NAMES, ClassTable
from seg_perception.whole_file import replaced_whole

COLUMNS = ('topic', 'log_time_ns', 'stamp_ns', 'class_id', 'class', 'pixels', 'share')
SUFFIXES = ('.csv', '.parquet')

_UNLABELED = 'unlabeled'
_NUM_PERIODS = 400
_NUM_SHOWN = 11
"""Classes with a colour of their own in the picture; the others are one."""
_ROWS_AT_ONCE = 50_000
_GREY, _BLACK = (0.75, 0.75, 0.75), (0.2, 0.2, 0.2)

Counted = tuple[int, int, int, dict[str, int]]
"""Camera, time of recording, stamp and pixels by class id of an image."""


def check_statistics(path: Path) -> None:
    """Checks that they could be written, before hours of work.

    Raises:
        ConfigurationError: the file's suffix is none of ``SUFFIXES``, or its folder is not there.
        MissingExtraError: a library is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(
            f'--stats: expected a file that ends with {" or ".join(SUFFIXES)}, got {path}'
        )
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f'--stats: there is no folder {path.absolute().parent}')
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('matplotlib', 'stats', 'draw statistics') from error
    if path.suffix == '.parquet':
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtraError('pyarrow', 'stats', 'write Parquet files') from error


def write_statistics(path: Path, job: Job, frames: Callable[[], Iterable[Counted]]) -> None:
    """Writes table and picture of a job that is done.

    Args:
        path: of the table; the picture has the same name and ends with ``.png``.
        job: the job.
        frames: gives its images, once more at every call.

    Raises:
        OutputError: they cannot be written.
    """
    classes = job.model.classes()
    write_table(path, frames(), job.cameras, classes)
    draw_shares(path.with_suffix('.png'), frames(), job.cameras, classes, job.range_ns)


def write_table(
    path: Path, frames: Iterable[Counted], cameras: Sequence[CameraTopic], classes: ClassTable
) -> int:
    """Writes a line for each class in each image: ``COLUMNS``.

    Args:
        path: CSV or Parquet, by its suffix.
        frames: the images; as many as there are, none is kept.
        cameras: what the numbers of cameras mean.
        classes: what the ids of classes mean; an unlabelled pixel's class is ``unlabeled``.

    Returns:
        How many lines.

    Raises:
        OutputError: it cannot be written.
    """
    rows = _rows(frames, cameras, classes)
    with replaced_whole(path) as partial:
        if path.suffix == '.parquet':
            return _write_parquet(partial, rows)
        with partial.open('w', newline='', encoding='utf-8') as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            num_rows = 0
            for row in rows:
                writer.writerow(row)
                num_rows += 1
        return num_rows


def draw_shares(
    path: Path,
    frames: Iterable[Counted],
    cameras: Sequence[CameraTopic],
    classes: ClassTable,
    range_ns: tuple[int, int],
) -> None:
    """Draws the share of each class over time, a panel for each camera.

    What means nothing in particular (``BACKGROUND_NAMES``, unlabelled pixels) is not drawn, and
    each panel's axis ends where its classes do: they are a few hundredths of most recordings.

    Args:
        path: of a picture.
        frames: the images; none is kept.
        cameras: what the numbers of cameras mean.
        classes: what the ids of classes mean.
        range_ns: time of recording of the first and behind the last.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    pixels_by_camera = _pixels_by_period(frames, len(cameras), classes, range_ns)
    seconds = (range_ns[1] - range_ns[0]) / 1e9
    edges_s = np.linspace(0.0, seconds, _NUM_PERIODS + 1)
    is_drawn_C = np.array([n not in BACKGROUND_NAMES for n in (*classes.names, _UNLABELED)])
    total_C = is_drawn_C * sum(pixels_TC.sum(axis=0) for pixels_TC in pixels_by_camera)
    shown = [int(i) for i in np.argsort(-total_C, kind='stable')[:_NUM_SHOWN] if total_C[i]]
    figure = Figure(figsize=(11, 0.8 + 2.8 * len(cameras)), layout='constrained')
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(cameras), 1, sharex=True, squeeze=False)[:, 0]
    for axes, camera, pixels_TC in zip(all_axes, cameras, pixels_by_camera, strict=True):
        has_images_T = pixels_TC.sum(axis=1) > 0
        share_TC = pixels_TC[has_images_T] / pixels_TC[has_images_T].sum(axis=1, keepdims=True)
        time_s = (edges_s[:-1] + edges_s[1:])[has_images_T] / 2
        drawn_T = share_TC[:, is_drawn_C].sum(axis=1)
        others_T = drawn_T - share_TC[:, shown].sum(axis=1)
        has_others = bool(others_T.max(initial=0.0) > 1e-9)
        most = drawn_T.max(initial=0.0)
        layers = [share_TC[:, i] for i in shown] + ([others_T] if has_others else [])
        names = [_class_name(classes, i) for i in shown] + ['others'] * has_others
        # The underscore keeps what a camera never saw out of its legend.
        labels = [
            name if layer.any() else f'_{name}' for name, layer in zip(names, layers, strict=True)
        ]
        if most:
            axes.stackplot(
                time_s,
                *layers,
                colors=[_color(classes, i) for i in shown] + [_GREY],
                labels=labels,
                linewidth=0.3,
                edgecolor='white',
            )
            axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True)
        else:
            axes.text(0.5, 0.5, 'nothing but background', ha='center', transform=axes.transAxes)
        top = min(1.0, 1.05 * most) or 1.0
        axes.set(title=camera.topic, ylabel='share of pixels', ylim=(0.0, top))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.margins(x=0)
    all_axes[-1].set_xlabel('seconds since the beginning')
    with replaced_whole(path) as partial:
        figure.savefig(partial, dpi=120)


def _rows(
    frames: Iterable[Counted], cameras: Sequence[CameraTopic], classes: ClassTable
) -> Iterator[tuple[Any, ...]]:
    for camera, log_ns, stamp_ns, pixels in frames:
        num_pixels = sum(pixels.values())
        for class_id, num in pixels.items():
            name = _class_name(classes, int(class_id))
            share = round(num / num_pixels, 6)
            yield (cameras[camera].topic, log_ns, stamp_ns, int(class_id), name, num, share)


def _write_parquet(path: Path, rows: Iterator[tuple[Any, ...]]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = (
        pa.string(),
        pa.int64(),
        pa.int64(),
        pa.int32(),
        pa.string(),
        pa.int64(),
        pa.float64(),
    )
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    num_rows = 0
    with parquet.ParquetWriter(path, schema, compression='zstd') as writer:
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            columns = zip(*part, strict=True)
            arrays = [pa.array(c, kind) for c, kind in zip(columns, kinds, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            num_rows += len(part)
    return num_rows


def _pixels_by_period(
    frames: Iterable[Counted], num_cameras: int, classes: ClassTable, range_ns: tuple[int, int]
) -> list[npt.NDArray[np.float64]]:
    """Of each camera an array TC; the last class is unlabelled."""
    start_ns, length_ns = range_ns[0], max(1, range_ns[1] - range_ns[0])
    arrays = [np.zeros((_NUM_PERIODS, len(classes) + 1)) for _ in range(num_cameras)]
    for camera, log_ns, _, pixels in frames:
        period = min(_NUM_PERIODS - 1, (log_ns - start_ns) * _NUM_PERIODS // length_ns)
        for class_id, num in pixels.items():
            arrays[camera][period, min(int(class_id), len(classes))] += num
    return arrays


def _class_name(classes: ClassTable, class_id: int) -> str:
    return classes.names[class_id] if class_id < len(classes) else _UNLABELED


def _color(classes: ClassTable, class_id: int) -> tuple[float, ...]:
    if class_id >= len(classes):
        return _BLACK
    return tuple(value / 255.0 for value in classes.colors_rgb[class_id])

"""Reads a recording of the viewer back, through rerun's own reader.

drawn = rrd_file.read(path)
drawn['/front/camera/labels']        # rows: [Row(timeline, time_ns, values), ...]
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

TIMELINES = ('stamp', 'sim_time')


@dataclass(frozen=True)
class Row:
    """What was drawn on an entity at a time; ``timeline`` is '' for what holds always."""

    timeline: str
    time_ns: int
    values: dict[str, Any]


def read(path) -> dict[str, list[Row]]:
    """The rows of each entity, in the order of their times, of the recording with most in it."""
    from rerun.chunk import RrdReader

    rows: dict[str, list[Row]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # there is no table of contents, and should be none
        reader = RrdReader(str(path))
        recordings = [list(reader.stream(store=store)) for store in reader.recordings()]
    chunks = max(recordings, key=len)
    for chunk in chunks:
        batch = chunk.to_record_batch()
        timelines = [name for name in chunk.timeline_names if name in TIMELINES]
        assert chunk.is_static or len(timelines) == 1, (chunk.entity_path, chunk.timeline_names)
        names = [name for name in batch.schema.names if ':' in name]
        for i in range(batch.num_rows):
            values = {name: batch.column(name)[i].as_py() for name in names}
            values = {name.partition(':')[2]: v for name, v in values.items() if v is not None}
            time_ns = batch.column(timelines[0])[i].value if timelines else 0
            row = Row(timelines[0] if timelines else '', time_ns, values)
            rows.setdefault(chunk.entity_path, []).append(row)
    return {entity: sorted(r, key=lambda row: row.time_ns) for entity, r in rows.items()}


def pixels(row: Row) -> np.ndarray:
    """The (rows, columns) of a single-channel image of 8 or 16 bits."""
    [image_format], [data] = row.values['format'], row.values['buffer']
    shape = image_format['height'], image_format['width']
    data = np.array(data, np.uint8)
    return data.view(np.uint8 if data.size == shape[0] * shape[1] else np.uint16).reshape(shape)

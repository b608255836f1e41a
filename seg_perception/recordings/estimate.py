"""What a recording, or thousands of hours of such ones, would take, from a few images of it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import InputError
from seg_perception.recordings.plan import Job
from seg_perception.recordings.slicing import SliceWorker

PLANNED_HOURS = 10_000
_MEASURE_S = 20.0
"""Enough slices of the recording are segmented to take so long, or all there are."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one worker needs, and what follows.

    Attributes:
        num_images: of the chosen part of the recording, about.
        recording_s: how long that part takes.
        recording_bytes: of the recording's files.
        num_measured: images that were segmented.
        image_s: what one of them took one worker, reading and writing included.
        image_bytes: what is said about one takes on the disk.
        load_s: how long the model takes to load, once per worker.
    """

    num_images: int
    recording_s: float
    recording_bytes: int
    num_measured: int
    image_s: float
    image_bytes: float
    load_s: float

    @property
    def worker_s(self) -> float:
        """What the recording takes one worker."""
        return self.load_s + self.num_images * self.image_s

    @property
    def worker_hours_per_hour(self) -> float:
        """What an hour of such recordings takes one worker."""
        return self.num_images * self.image_s / self.recording_s

    def to_document(self) -> dict[str, Any]:
        """Everything, in plain values."""
        return {
            **dataclasses.asdict(self),
            'worker_s': self.worker_s,
            f'worker_hours_for_{PLANNED_HOURS}_hours': self.worker_hours_per_hour * PLANNED_HOURS,
        }

    def to_text(self) -> str:
        """What a person wants to know."""
        rate_hz = self.num_images / self.recording_s
        in_mb_s = self.recording_bytes / 1e6 / self.recording_s
        out_mb_s = in_mb_s + rate_hz * self.image_bytes / 1e6
        hours = self.worker_hours_per_hour * PLANNED_HOURS
        tb_in, tb_out = (mb_s * PLANNED_HOURS * 3600 / 1e6 for mb_s in (in_mb_s, out_mb_s))
        return (
            f'measured: {self.num_measured} images, {self.image_s * 1e3:.1f} ms and '
            f'{self.image_bytes / 1e3:.1f} kB of results for each, '
            f'{self.load_s:.1f} s to load the model\n'
            f'this recording: {self.num_images} images in {self.recording_s:.0f} s '
            f'({rate_hz:.1f} images/s), {self.worker_s / 3600:.2f} hours of one worker, '
            f'{out_mb_s * self.recording_s / 1e3:.2f} GB\n'
            f'{PLANNED_HOURS:,} hours like it: {hours:,.0f} hours of one worker '
            f'({hours / 168:,.1f} workers for a week), {tb_in:,.1f} TB in, {tb_out:,.1f} TB out\n'
            f'a worker is one process of --jobs (one core, or one GPU); docs/capacity_plan.md '
            f'goes on from here'
        )


def estimate(job: Job) -> Estimate:
    """Segments slices of a recording for a while, and forgets what came of it.

    Args:
        job: what would be done; its folder is not touched.

    Raises:
        InputError: no image of it can be segmented.
        SegPerceptionError: the model cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = dataclasses.replace(job, work_dir=Path(folder))
        worker = SliceWorker(job)
        try:
            start_s = time.monotonic()
            worker.load().warm_up()
            load_s = time.monotonic() - start_s
            num_images, num_bytes = 0, 0
            slices = job.slices()
            start_s = time.monotonic()
            # from the middle on: recordings begin with the lens cap on
            for part in slices[len(slices) // 2 :] + slices[: len(slices) // 2]:
                account: Mapping[str, Any] = worker.segment(part.number)
                num_images += len(account['frames'])
                num_bytes += job.results_path(part.number).stat().st_size
                job.results_path(part.number).unlink()
                if time.monotonic() - start_s > _MEASURE_S:
                    break
            took_s = time.monotonic() - start_s
        finally:
            worker.close()
    if not num_images:
        raise InputError(f'{job.found.recording.path}: no image of it can be segmented')
    return Estimate(
        num_images=job.num_images(),
        recording_s=(job.range_ns[1] - job.range_ns[0]) / 1e9,
        recording_bytes=sum(file.file.path.stat().st_size for _, file in job.found.whole_files),
        num_measured=num_images,
        image_s=took_s / num_images,
        image_bytes=num_bytes / num_images,
        load_s=load_s,
    )

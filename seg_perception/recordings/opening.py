"""From words of a command line to a job."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.backends.devices import select_device
from seg_perception.errors import ConfigurationError
from seg_perception.recordings.cameras import choose_cameras, describe, find_candidates
from seg_perception.recordings.outputs import DEFAULT_OUTPUTS, OutputOptions
from seg_perception.recordings.plan import Job, ModelChoice
from seg_perception.recordings.recorded import STORAGES, find_recording
from seg_perception.recordings.survey import selected_range_ns, survey

WORK_SUFFIX = '.partial'
"""Added to the name of the new recording while it is not complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for; the meaning is that of the command's options.

    Attributes:
        recording: a folder or a file.
        out: folder of the new recording, which is not there yet.
        model: see `ModelChoice`.
        topics: names or patterns; none for all cameras.
        outputs: what to say of images.
        options: how to say it.
        start_s: where to begin, see `selected_range_ns`; None for the beginning.
        end_s: where to end.
        every_s: one image of each camera in so many seconds; 0 for all.
        storage: ``mcap``, ``sqlite3``, or empty for that of the recording.
        is_compressed: whether chunks are compressed where the storage can do that.
        has_originals: whether what was recorded is in the new one too.
        namespace: last part of the names of our topics' namespace.
        batch_size: images the model takes at once.
    """

    recording: Path
    out: Path
    model: ModelChoice
    topics: Sequence[str] = ()
    outputs: Sequence[str] = DEFAULT_OUTPUTS
    options: OutputOptions = dataclasses.field(default_factory=OutputOptions)
    start_s: float | None = None
    end_s: float | None = None
    every_s: float = 0.0
    storage: str = ''
    is_compressed: bool = True
    has_originals: bool = True
    namespace: str = 'segmentation'
    batch_size: int = 1


def open_job(request: Request) -> tuple[Job, list[str]]:
    """Looks into a recording and says what is to be done with it.

    Returns:
        The job, and remarks for people: which topics are segmented, which image topics are
        not, which files are damaged.

    Raises:
        ConfigurationError: an option that cannot be.
        InputError: the recording cannot be read.
        ModelError: there is no such model.
        MissingExtraError: the rosbags library is not installed.
    """
    out = request.out.absolute()
    if out.suffix in STORAGES:
        raise ConfigurationError(
            f'-o: expected the name of a folder, as recordings are folders, got {request.out}'
        )
    if request.every_s < 0.0 or request.batch_size < 1:
        raise ConfigurationError(
            f'expected --every of 0 or more and --batch-size of 1 or more, got '
            f'{request.every_s:g} and {request.batch_size}'
        )
    if request.model.run_options.engine == 'auto':
        raise ConfigurationError(
            '--engine: expected one by name, because auto measures, and may choose another one '
            'on another machine; `seg-perception bench --parity` says which is quick'
        )
    recording = find_recording(request.recording)
    found = survey(recording)
    range_ns = selected_range_ns(found, request.start_s, request.end_s)
    candidates = find_candidates(found, range_ns, request.namespace)
    cameras, left_out = choose_cameras(candidates, request.topics, request.recording)
    job = Job(
        found=found,
        range_ns=range_ns,
        cameras=tuple(cameras),
        model=_with_device(request.model),
        name=out.name,
        work_dir=out.with_name(f'{out.name}{WORK_SUFFIX}'),
        storage=request.storage or recording.files[0].storage,
        is_compressed=request.is_compressed,
        has_originals=request.has_originals,
        outputs=tuple(request.outputs),
        options=request.options,
        every_ns=round(request.every_s * 1e9),
        batch_size=request.batch_size,
    )
    job.check()
    taken = [c for c in candidates if c.camera in cameras]
    remarks = ['segmenting'] + [f'  {line}' for line in describe(taken)]
    if left_out:
        remarks += ['leaving out'] + [f'  {line}' for line in describe(left_out)]
    remarks += [f'damaged: {file.fault}' for file in found.files if file.fault]
    return job, remarks


def _with_device(model: ModelChoice) -> ModelChoice:
    """The model with a device that is the same kind everywhere: ``auto`` is what is here."""
    options = model.run_options
    if options.device != 'auto':
        return model
    device = select_device(options.device).type
    return dataclasses.replace(model, run_options=dataclasses.replace(options, device=device))


def list_topics(path: Path) -> tuple[list[str], dict[str, Any]]:
    """The image topics of a recording, for people and for programs.

    Raises:
        ConfigurationError: there is no such recording.
        InputError: it cannot be read.
        MissingExtraError: the rosbags library is not installed.
    """
    found = survey(find_recording(path))
    candidates = find_candidates(found, found.range_ns, 'segmentation')
    start_ns, end_ns = found.range_ns
    faults = [file.fault for file in found.files if file.fault]
    document = {
        'start_ns': start_ns,
        'end_ns': end_ns,
        'num_messages': sum(file.num_messages for file in found.files),
        'topics': [
            {
                'name': c.camera.topic,
                'num_images': c.num_images,
                'is_compressed': c.camera.is_compressed,
                'camera_info': c.camera.camera_info_topic,
                'is_camera': not c.why_not,
                'why_not': c.why_not,
            }
            for c in candidates
        ],
        'damaged': faults,
    }
    head = (
        f'{path}: {(end_ns - start_ns) / 1e9:.1f} s, {document["num_messages"]} messages, '
        f'{len(found.files)} file(s)'
    )
    lines = describe(candidates) or ['no image topics']
    return [head, *lines, *(f'damaged: {fault}' for fault in faults)], document


def default_jobs(device: str) -> int:
    """Processes to use: one per core of this machine's CPU, one on a GPU.

    Raises:
        DeviceError: there is no such device.
    """
    if select_device(device).type == 'cuda':
        return 1
    return len(os.sched_getaffinity(0))

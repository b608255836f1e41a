"""The only place that sequences the stages, and times them: images in, segmentations out.

Legend: B batch, C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.backends import InstanceOutput, ModelOutput, RunOptions, load_backend
from seg_perception.backends.failures import device_failures, translated
from seg_perception.backends.torch_eager import give_memory_back, use_threads
from seg_perception.device_queue import Download, StageClock
from seg_perception.errors import ConfigurationError, InferenceError, InputError
from seg_perception.imaging import DEFAULT_MAX_PIXELS, decode
from seg_perception.imaging.preprocess import Preprocessor, ResizeGeometry
from seg_perception.models import DEFAULT_MODEL, ModelCard, resolve
from seg_perception.postprocess import GridSampler, label_objects, objects_of_owners
from seg_perception.postprocess.label_images import LabelRules, label_images
from seg_perception.structures import (
    U8,
    ClassTable,
    CompressedFrame,
    Frame,
    Labels,
    Objects,
    Segmentation,
)

Image = Frame | CompressedFrame | npt.NDArray[np.uint8]

_MAX_SAMPLERS = 32


class Segmenter:
    """A loaded model that turns images into label images.

        segmenter = Segmenter()
        [result] = segmenter.segment([image_rgb])
        print(result.class_fractions())

    Not thread-safe: one segmenter belongs to one worker.

    Args:
        model: catalog name, path of a model card, or path of a model file; or a card.
        weights_path: a local copy of the weights, instead of where the card says.
        input_size_hw: network input size instead of the card's, for more speed or more detail.
        confidence_threshold: pixels less sure than this probability get ``unlabeled_id``.
        max_pixels: larger images are refused before anything is allocated.
        **run_options: fields of ``backends.RunOptions``: ``device``, ``precision``, ``engine``,
            ``channels_last``, ``num_threads`` (torch's and OpenCV's too, which are settings of
            the thread and of the process), ``trust_model_code``.

    Raises:
        ModelError: no such model, or its card or weights are unusable.
        DeviceError: the device or precision asked for is not there; no other is taken.
        ConfigurationError: an option that cannot work.
        MissingExtraError: the model needs a library that is not installed.
    """

    def __init__(
        self,
        model: str | Path | ModelCard = DEFAULT_MODEL,
        *,
        weights_path: str | Path | None = None,
        input_size_hw: tuple[int, int] | None = None,
        confidence_threshold: float = 0.0,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        **run_options: Any,
    ) -> None:
        known = [field.name for field in dataclasses.fields(RunOptions)]
        if unknown := sorted(set(run_options) - set(known)):
            raise ConfigurationError(
                f'expected options among {", ".join(known)}, got {", ".join(unknown)}'
            )
        card = model if isinstance(model, ModelCard) else resolve(model)
        if input_size_hw is not None:
            card = dataclasses.replace(
                card, input=dataclasses.replace(card.input, size_hw=input_size_hw)
            )
        if max_pixels < 1:
            raise ConfigurationError(f'expected max_pixels of at least 1, got {max_pixels}')
        self.card = card
        self._confidence_threshold = 0.0
        self.confidence_threshold = confidence_threshold
        options = RunOptions(**run_options)
        self._num_threads = options.num_threads
        if options.num_threads:
            cv2.setNumThreads(options.num_threads)
        self._backend = load_backend(card, weights_path, options)
        self._stream: torch.cuda.Stream | None = None  # brings results to the host
        if self.device.type == 'cuda':
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._samplers: dict[tuple[Any, ...], GridSampler] = {}
        self._max_pixels = max_pixels
        size_hw, resize = card.input.size_hw, card.input.resize
        fixed_hw = self._backend.input_hw_fixed
        if fixed_hw is not None:
            if input_size_hw not in (None, fixed_hw):
                raise ConfigurationError(
                    f'{card.name} takes only images of {fixed_hw[0]}x{fixed_hw[1]} '
                    f'(height x width), got input_size_hw {input_size_hw}'
                )
            # A network of one size cannot follow the image's aspect; padding keeps it.
            size_hw, resize = fixed_hw, 'letterbox' if resize == 'fit' else resize
        bgr = card.input.channel_order == 'bgr'
        mean, std, pad = card.input.mean_rgb, card.input.std_rgb, card.input.pad_rgb
        self._preprocessor = Preprocessor(
            size_hw,
            resize,
            mean[::-1] if bgr else mean,
            std[::-1] if bgr else std,
            card.input.channel_order,
            card.input.multiple_of if resize == 'fit' else 1,
            self._backend.device,
            self._backend.dtype,
            self._backend.channels_last,
            pad_C=pad[::-1] if pad is not None and bgr else pad,
            max_pixels=max_pixels,
        )

    @property
    def classes(self) -> ClassTable:
        """What the label values mean."""
        return self.card.classes

    @property
    def has_confidence(self) -> bool:
        """Whether the model gives scores; one that gives labels only has no confidence."""
        return self.card.output.kind != 'labels'

    @property
    def confidence_threshold(self) -> float:
        """Pixels less sure than this probability get the unlabelled id."""
        return self._confidence_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: float) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise ConfigurationError(
                f'confidence_threshold: expected a probability of 0 to 1, got {threshold}'
            )
        if threshold > 0.0 and not self.has_confidence:
            raise ConfigurationError(
                f'confidence_threshold: expected 0, because {self.card.name} gives labels without '
                f'scores, got {threshold}; use a model whose output is logits'
            )
        self._confidence_threshold = threshold

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._backend.device

    def description(self) -> Mapping[str, str]:
        """What runs where and how, for people."""
        return {'model': self.card.name, **self._backend.description()}

    def input_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of the model's input for images of a size."""
        return self._preprocessor.plan(source_hw).input_hw

    def warm_up(self, source_hw: tuple[int, int] = (480, 640), batch: int = 1) -> None:
        """Segments black images, so that the first real frame is not slow.

        Raises:
            InferenceError: the model cannot run.
        """
        self._backend.warm_up(self.input_hw(source_hw), batch)
        if self.device.type == 'cuda':  # compiles the kernels beside the model
            self.segment([np.zeros((*source_hw, 3), np.uint8)] * batch)

    def segment(
        self,
        images: Sequence[Image],
        *,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> list[Segmentation]:
        """Segments images of any sizes and encodings, batched where their input sizes agree.

        Args:
            images: frames, compressed frames, or RGB arrays of shape (Y, X, 3), uint8.
            confidence: whether to compute confidence too.
            objects: whether to tell objects apart too, where the model does.
            output_size_hw: size of the results; each image's own where None.

        Returns:
            One result per image, in order; arrays are the caller's to keep. Labels are exactly
            the argmax of the bilinearly upsampled logits; confidence is the winning softmax
            probability on the model's grid, upsampled bilinearly. Of a model that gives objects
            they are the class and the score of the object at each pixel.

        Raises:
            InputError: an image cannot be used; none is segmented then.
            InferenceError: the model failed, or gave something that is not a number.
            ConfigurationError: ``output_size_hw`` cannot be.
        """
        # A device reports what a kernel did at any later call, in whichever stage that is.
        with device_failures(self.card.name, f'on {len(images)} image(s)'):
            return self.start(
                images, confidence=confidence, objects=objects, output_size_hw=output_size_hw
            ).results()

    def start(
        self,
        images: Sequence[Image],
        *,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> PendingSegmentations:
        """Begins what `segment` does; on a GPU it does not wait for the device.

        To keep a GPU busy, start the next images before asking for these results; see `stream`.

        Args:
            images: see `segment`; their bytes are free on return.
            confidence: see `segment`.
            objects: see `segment`.
            output_size_hw: see `segment`.

        Returns:
            What gives the results.

        Raises:
            InputError, InferenceError, ConfigurationError: see `segment`. On a GPU some errors
                come from ``results`` only.
        """
        if output_size_hw is not None and not (
            len(output_size_hw) == 2 and min(output_size_hw) > 0
        ):
            raise ConfigurationError(
                f'expected output_size_hw of two positive numbers, got {output_size_hw}'
            )
        use_threads(self._num_threads)
        clock = StageClock(self.device)
        with clock.host_stage('decode'):
            frames = [self._to_frame(image) for image in images]
        parts: list[_Part] = []
        with torch.inference_mode():
            with clock.stage('preprocess'):
                batches = self._preprocessor(frames)
            for batch_B3HW, indices, geometries in batches:
                for part in _parts(len(indices), self._backend.max_batch):
                    with clock.stage('infer'):
                        output = self._backend.infer(batch_B3HW[part])
                    with clock.stage('postprocess'):
                        parts += [
                            _Part(
                                [indices[part][i] for i in members],
                                tuple(tensors),
                                Download(list(tensors.values()), self._stream),
                            )
                            for members, tensors in self._finish(
                                output, geometries[part], confidence, objects, output_size_hw
                            )
                        ]
        return PendingSegmentations(self.card, frames, parts, clock)

    def stream(
        self,
        batches: Iterable[Sequence[Image]],
        *,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> Iterator[list[Segmentation]]:
        """Segments one batch after the other, each while the one before is on its way back.

        Results are those of `segment`, bit for bit, and in the same order.

        Args:
            batches: images as `segment` takes them.
            confidence: see `segment`.
            objects: see `segment`.
            output_size_hw: see `segment`.

        Raises:
            InputError, InferenceError, ConfigurationError: see `segment`.
        """
        pending: PendingSegmentations | None = None
        for images in batches:
            started = self.start(
                images, confidence=confidence, objects=objects, output_size_hw=output_size_hw
            )
            if pending is not None:
                yield pending.results()
            pending = started
        if pending is not None:
            yield pending.results()

    def upsampled_logits(self, image: Image) -> torch.Tensor:
        """The model's own scores at the image's size, before temperature; for calibration.

        `segment` never makes them: they are large, and labels and confidence do not need them.

        Args:
            image: see `segment`.

        Returns:
            (C, Y, X) float32 on the model's device.

        Raises:
            InputError: the image cannot be used.
            InferenceError: the model failed or gives no logits.
        """
        with torch.inference_mode():
            [(batch_B3HW, _, [geometry])] = self._preprocessor([self._to_frame(image)])
            output = self._backend.infer(batch_B3HW)
            if output.logits_BCHW is None or output.is_probabilities:
                raise InferenceError(
                    f'{self.card.name}: expected a model that gives logits, '
                    f'got {self.card.output.kind}'
                )
            logits_CHW = output.logits_BCHW[0]
            grid_hw = tuple(logits_CHW.shape[1:])
            sampler = self._sampler(grid_hw, geometry, geometry.source_hw)
            return torch.stack([sampler.resample(logits_HW) for logits_HW in logits_CHW])

    def free_caches(self) -> None:
        """Gives back, on the device too, all memory that the next call can do without."""
        self._samplers.clear()
        self._preprocessor.free_buffers()
        give_memory_back(self.device)

    def close(self) -> None:
        """Frees the model's memory, on the device too; the segmenter cannot be used afterwards."""
        self._samplers.clear()
        self._backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _to_frame(self, image: Image) -> Frame:
        if isinstance(image, Frame):
            return image
        if isinstance(image, CompressedFrame):
            return decode(image, max_pixels=self._max_pixels)
        is_gray = isinstance(image, np.ndarray) and image.ndim == 2
        is_rgb = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
        if not (is_gray or is_rgb) or image.dtype != np.uint8:
            got = (
                f'{image.dtype} of shape {image.shape}' if hasattr(image, 'dtype') else type(image)
            )
            raise InputError(
                f'expected a Frame, a CompressedFrame, or a uint8 array of shape (Y, X, 3) in RGB '
                f'or (Y, X) in grey, got {got}; for other pixels use Frame.from_array'
            )
        return Frame.from_array(image, 'mono8' if is_gray else 'rgb8')

    def _finish(
        self,
        output: ModelOutput,
        geometries: Sequence[ResizeGeometry],
        wants_confidence: bool,
        wants_objects: bool,
        output_size_hw: tuple[int, int] | None,
    ) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Results of the images of a batch, on a GPU those of one geometry together.

        Yields:
            The images' positions in the batch, and by name labels (B, Y, X), whether scores were
            not numbers, confidence (B, Y, X) where it is wanted and known, and what objects are
            made of where the model gives them.
        """
        if output.instances is not None:
            for i, (found, geometry) in enumerate(zip(output.instances, geometries, strict=True)):
                output_hw = output_size_hw or geometry.source_hw
                yield (
                    [i],
                    self._finish_objects(
                        found, geometry, wants_confidence, wants_objects, output_hw
                    ),
                )
            return
        groups: dict[ResizeGeometry, list[int]] = {}
        for i, geometry in enumerate(geometries):
            groups.setdefault(geometry, []).append(i)
        for geometry, members in groups.items():
            yield (
                members,
                self._finish_alike(
                    output,
                    members,
                    geometry,
                    wants_confidence,
                    output_size_hw or geometry.source_hw,
                ),
            )

    def _finish_alike(
        self,
        output: ModelOutput,
        members: list[int],
        geometry: ResizeGeometry,
        wants_confidence: bool,
        output_hw: tuple[int, int],
    ) -> dict[str, torch.Tensor]:
        is_row = members == list(range(members[0], members[-1] + 1))
        chosen = slice(members[0], members[-1] + 1) if is_row else members  # a view, or a copy
        if output.labels_BHW is not None:
            labels_BHW = output.labels_BHW[chosen]
            sampler = self._sampler(tuple(labels_BHW.shape[1:]), geometry, output_hw)
            labels_BYX = torch.stack([sampler.nearest(labels_HW) for labels_HW in labels_BHW])
            return {'labels': labels_BYX.to(self._label_dtype)}
        assert output.logits_BCHW is not None
        logits_BCHW = output.logits_BCHW[chosen]
        sampler = self._sampler(tuple(logits_BCHW.shape[2:]), geometry, output_hw)
        rules = LabelRules(
            self.classes,
            output.is_probabilities,
            self.card.output.temperature,
            self.confidence_threshold,
            wants_confidence,
        )
        made = label_images(logits_BCHW, sampler, rules)
        tensors = {'labels': made.labels_BYX, 'is_nan': made.is_nan}
        if made.confidence_BYX is not None:
            tensors['confidence'] = made.confidence_BYX
        return tensors

    def _finish_objects(
        self,
        found: InstanceOutput,
        geometry: ResizeGeometry,
        wants_confidence: bool,
        wants_objects: bool,
        output_hw: tuple[int, int],
    ) -> dict[str, torch.Tensor]:
        sampler = self._sampler(tuple(found.mask_logits_NHW.shape[1:]), geometry, output_hw)
        options = self.card.output.options
        made = label_objects(
            found,
            sampler,
            self.classes,
            thing_ids=[self.classes.id_of(name) for name in options.thing_classes],
            confidence=wants_confidence,
            confidence_threshold=self.confidence_threshold,
            overlap_threshold=options.overlap_threshold,
        )
        tensors = {'labels': made.labels_YX.to(self._label_dtype)[None]}
        if made.confidence_YX is not None:
            tensors['confidence'] = made.confidence_YX[None]
        if wants_objects:
            tensors['owners'] = made.owners_YX.to(torch.uint16)
            tensors |= {'class_ids': found.class_ids_N, 'scores': found.scores_N}
        return tensors

    @property
    def _label_dtype(self) -> torch.dtype:
        return torch.uint8 if self.classes.label_dtype == np.uint8 else torch.uint16

    def _sampler(
        self, grid_hw: tuple[int, ...], geometry: ResizeGeometry, output_hw: tuple[int, int]
    ) -> GridSampler:
        key = (grid_hw, geometry, output_hw)
        sampler = self._samplers.pop(key, None)
        if sampler is None:
            sampler = GridSampler(
                (grid_hw[0], grid_hw[1]),
                geometry,
                output_hw,
                align_corners=self.card.output.align_corners,
                device=self._backend.device,
            )
        self._samplers[key] = sampler  # most recently used last
        while len(self._samplers) > _MAX_SAMPLERS:
            del self._samplers[next(iter(self._samplers))]
        return sampler


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Results of some images of one size, on their way to the host.

    Attributes:
        indices: which images.
        names: what the arrays are that come: labels (B, Y, X); whether scores were not numbers;
            confidence (B, Y, X); owners (Y, X), class_ids (N,) and scores (N,) of the objects of
            a single image.
        download: brings them.
    """

    indices: list[int]
    names: tuple[str, ...]
    download: Download


class PendingSegmentations:
    """Images that a `Segmenter` has begun to segment.

    Args:
        card: the model's.
        frames: the images.
        parts: results on their way to the host.
        clock: times the stages.
    """

    def __init__(
        self,
        card: ModelCard,
        frames: Sequence[Frame],
        parts: Sequence[_Part],
        clock: StageClock,
    ) -> None:
        self._card = card
        self._frames = frames
        self._parts = parts
        self._clock = clock

    def results(self) -> list[Segmentation]:
        """One result per image, in order; waits for the device. Arrays are the caller's to keep.

        Raises:
            InferenceError: the model failed, or gave something that is not a number.
        """
        made: dict[int, tuple[Labels, U8 | None, Objects | None]] = {}
        with self._clock.host_stage('download'), translated(self._card.name, 'on its device'):
            for part in self._parts:
                arrays = dict(zip(part.names, part.download.arrays(), strict=True))
                if arrays.get('is_nan', np.False_).any():
                    raise InferenceError(
                        f'{self._card.name}: expected numbers, got NaN; try precision fp32, and '
                        f'check the weights'
                    )
                objects = None
                if 'owners' in arrays:
                    scores_N = arrays['scores'].clip(0.0, 1.0)
                    objects = objects_of_owners(arrays['owners'], arrays['class_ids'], scores_N)
                confidence_BYX = arrays.get('confidence')
                for position, index in enumerate(part.indices):
                    confidence_YX = None if confidence_BYX is None else confidence_BYX[position]
                    made[index] = arrays['labels'][position], confidence_YX, objects
        timings_ms = self._clock.timings_ms()
        return [
            Segmentation(
                labels_YX=made[i][0],
                confidence_YX=made[i][1],
                classes=self._card.classes,
                timings_ms=timings_ms,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.frame_id,
                camera=frame.camera,
                objects=made[i][2],
            )
            for i, frame in enumerate(self._frames)
        ]


def _parts(num_items: int, max_items: int | None) -> Iterator[slice]:
    """Slices of at most ``max_items`` that cover ``num_items``."""
    size = max_items or num_items
    for start in range(0, num_items, size):
        yield slice(start, start + size)

"""The only place that sequences the stages, and times them: images in, segmentations out.

Legend: B batch, C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.backends import ModelOutput, RunOptions, load_backend
from seg_perception.backends.torch_eager import use_threads
from seg_perception.errors import ConfigurationError, InferenceError, InputError
from seg_perception.imaging import DEFAULT_MAX_PIXELS, decode
from seg_perception.imaging.preprocess import Preprocessor, ResizeGeometry
from seg_perception.models import DEFAULT_MODEL, ModelCard, resolve
from seg_perception.postprocess import GridSampler
from seg_perception.structures import ClassTable, CompressedFrame, Frame, Segmentation

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
        mean, std = card.input.mean_rgb, card.input.std_rgb
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

    def warm_up(self, source_hw: tuple[int, int] = (480, 640), batch: int = 1) -> None:
        """Runs the model once on an image of zeros, so that the first real frame is not slow.

        Raises:
            InferenceError: the model cannot run.
        """
        self._backend.warm_up(self._preprocessor.plan(source_hw).input_hw, batch)

    def segment(
        self,
        images: Sequence[Image],
        *,
        confidence: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> list[Segmentation]:
        """Segments images of any sizes and encodings, batched where their input sizes agree.

        Args:
            images: frames, compressed frames, or RGB arrays of shape (Y, X, 3), uint8.
            confidence: whether to compute confidence too.
            output_size_hw: size of the results; each image's own where None.

        Returns:
            One result per image, in order; arrays are the caller's to keep. Labels are exactly
            the argmax of the bilinearly upsampled logits; confidence is the winning softmax
            probability on the model's grid, upsampled bilinearly.

        Raises:
            InputError: an image cannot be used; none is segmented then.
            InferenceError: the model failed, or gave something that is not a number.
            ConfigurationError: ``output_size_hw`` cannot be.
        """
        if output_size_hw is not None and not (
            len(output_size_hw) == 2 and min(output_size_hw) > 0
        ):
            raise ConfigurationError(
                f'expected output_size_hw of two positive numbers, got {output_size_hw}'
            )
        if not images:
            return []
        use_threads(self._num_threads)
        timings_ms: dict[str, float] = {}
        with self._timed(timings_ms, 'decode'):
            frames = [self._to_frame(image) for image in images]
        with torch.inference_mode():
            with self._timed(timings_ms, 'preprocess'):
                batches = self._preprocessor(frames)
            arrays: dict[int, list[npt.NDArray[Any]]] = {}
            for batch_B3HW, indices, geometries in batches:
                for part in _parts(len(indices), self._backend.max_batch):
                    with self._timed(timings_ms, 'infer'):
                        output = self._infer(batch_B3HW[part])
                    with self._timed(timings_ms, 'postprocess'):
                        tensors = [
                            self._finish(output, i, geometry, confidence, output_size_hw)
                            for i, geometry in enumerate(geometries[part])
                        ]
                        arrays |= zip(indices[part], self._to_host(tensors), strict=True)
        return [
            Segmentation(
                labels_YX=arrays[i][0],
                confidence_YX=arrays[i][1] if len(arrays[i]) > 1 else None,
                classes=self.classes,
                timings_ms=timings_ms,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.frame_id,
                camera=frame.camera,
            )
            for i, frame in enumerate(frames)
        ]

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
            output = self._infer(batch_B3HW)
            if output.logits_BCHW is None or output.is_probabilities:
                raise InferenceError(
                    f'{self.card.name}: expected a model that gives logits, '
                    f'got {self.card.output.kind}'
                )
            logits_CHW = output.logits_BCHW[0]
            grid_hw = tuple(logits_CHW.shape[1:])
            sampler = self._sampler(grid_hw, geometry, geometry.source_hw)
            return torch.stack([sampler.resample(logits_HW) for logits_HW in logits_CHW])

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

    def _infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        output = self._backend.infer(batch_B3HW)
        if output.logits_BCHW is not None and output.logits_BCHW.isnan().any():
            raise InferenceError(
                f'{self.card.name}: expected numbers, got NaN; try precision fp32, and check the '
                f'weights'
            )
        return output

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
        index: int,
        geometry: ResizeGeometry,
        wants_confidence: bool,
        output_size_hw: tuple[int, int] | None,
    ) -> list[torch.Tensor]:
        """Labels (Y, X) and, where wanted and known, confidence (Y, X) of one image."""
        output_hw = output_size_hw or geometry.source_hw
        if output.labels_BHW is not None:
            labels_HW = output.labels_BHW[index]
            sampler = self._sampler(tuple(labels_HW.shape), geometry, output_hw)
            return [self._as_label_dtype(sampler.nearest(labels_HW))]
        assert output.logits_BCHW is not None
        logits_CHW = output.logits_BCHW[index]
        sampler = self._sampler(tuple(logits_CHW.shape[1:]), geometry, output_hw)
        labels_YX = sampler.labels(logits_CHW)
        is_thresholded = self.confidence_threshold > 0.0
        if not (wants_confidence or is_thresholded):
            return [self._as_label_dtype(labels_YX)]
        scores_CHW = logits_CHW.float()
        if not output.is_probabilities:
            scores_CHW = (scores_CHW / self.card.output.temperature).softmax(0)
        probability_HW = scores_CHW.amax(0)
        if is_thresholded:
            is_unsure_YX = sampler.resample(probability_HW) < self.confidence_threshold
            labels_YX[is_unsure_YX] = self.classes.unlabeled_id
        labels_YX = self._as_label_dtype(labels_YX)
        if not wants_confidence:
            return [labels_YX]
        return [labels_YX, sampler.levels(probability_HW)]

    def _as_label_dtype(self, labels_YX: torch.Tensor) -> torch.Tensor:
        is_small = self.classes.label_dtype == np.uint8
        return labels_YX.to(torch.uint8 if is_small else torch.uint16).contiguous()

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

    def _to_host(self, tensors: list[list[torch.Tensor]]) -> list[list[npt.NDArray[Any]]]:
        """All results of a batch as arrays; from a GPU through pinned memory with one wait."""
        if self.device.type == 'cuda':
            pinned = [
                [
                    torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(
                        t, non_blocking=True
                    )
                    for t in group
                ]
                for group in tensors
            ]
            torch.cuda.current_stream(self.device).synchronize()
            tensors = pinned
        return [[t.numpy() for t in group] for group in tensors]

    @contextmanager
    def _timed(self, timings_ms: dict[str, float], stage: str) -> Iterator[None]:
        """Adds the wall time of a stage, the device's work included."""
        start = time.perf_counter()
        yield
        if self.device.type == 'cuda':
            torch.cuda.current_stream(self.device).synchronize()
        elapsed_ms = (time.perf_counter() - start) * 1e3
        timings_ms[stage] = timings_ms.get(stage, 0.0) + elapsed_ms


def _parts(num_items: int, max_items: int | None) -> Iterator[slice]:
    """Slices of at most ``max_items`` that cover ``num_items``."""
    size = max_items or num_items
    for start in range(0, num_items, size):
        yield slice(start, start + size)

"""A model that turns images into segmentations: it sequences the stages, and times them.

Legend: B batch, C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.backends.failures import device_failures, translated
from seg_perception.backends.torch_eager import give_memory_back, use_threads
from seg_perception.backends.worded import Vocabulary, WordedBackend
from seg_perception.errors import ConfigurationError, InferenceError
from seg_perception.imaging import DEFAULT_MAX_PIXELS
from seg_perception.imaging.convert import frame_bytes
from seg_perception.models import DEFAULT_MODEL, ModelCard, resolve
from seg_perception.pipeline.device_graph import StageGraphs
from seg_perception.pipeline.device_queue import Download, StageClock
from seg_perception.pipeline.finishing import Finisher, Part, Wanted
from seg_perception.pipeline.images import Image, check_prompts, to_frame
from seg_perception.pipeline.network_input import (
    input_spec,
    make_preprocessor,
    scaled_size_hw,
)
from seg_perception.pipeline.pending import PendingSegmentations
from seg_perception.pipeline.stages import Stages
from seg_perception.structures import ClassTable, Frame, Prompt, Segmentation

_SLOW_TO_NEW_SIZES = ('compile', 'aot', 'tensorrt', 'openvino')
"""Engines that build something for every size of input."""


class Segmenter:
    """A loaded model that turns images into label images.

        segmenter = Segmenter()
        [result] = segmenter.segment([image_rgb])
        print(result.class_fractions())

    Not thread-safe: one segmenter belongs to one worker. Results of what was started may be asked
    for by another thread while the worker starts the next.

    Args:
        model: what ``models.resolve`` takes: a catalog name, ``hf:…``, ``torchvision:…``,
            ``smp:…``, path of a model card or of a model file; or a card.
        weights_path: a local copy of the weights, instead of where the card says.
        input_size_hw: network input size instead of the card's, for more speed or more detail.
        confidence_threshold: pixels less sure than this probability get ``unlabeled_id``.
        words: what to look for, for models that segment what words name; see `words`.
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
        words: Sequence[str] = (),
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
            card = dataclasses.replace(card, input=card.input.at_size(input_size_hw))
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
        engine = self._backend.description().get('engine')
        self._is_compiled = engine in _SLOW_TO_NEW_SIZES
        self._worded = cast(WordedBackend, self._backend) if card.output.kind == 'words' else None
        if words:
            self.words = tuple(words)
        self._stream: torch.cuda.Stream | None = None  # brings results to the host
        if self.device.type == 'cuda':
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._finish = Finisher(card, self.device)
        self._max_pixels = max_pixels
        self._input = input_spec(card, self._backend, input_size_hw)
        self._preprocessor = make_preprocessor(self._input, self._backend, max_pixels)
        self._stages = Stages(self._preprocessor, self._backend, self._finish)
        self._graphs: StageGraphs | None = None
        if self._backend.is_capturable:
            self._graphs = StageGraphs(
                self.device, lambda: (self._preprocessor.tables(), self._finish.tables())
            )

    @property
    def can_scale_input(self) -> bool:
        """Whether the network's input can be made smaller while it runs.

        Not where the model's file or card fixes it, nor where every size is compiled for minutes
        first.
        """
        is_fixed = self._backend.input_hw_fixed is not None or self._input.canvas_hw is not None
        return self._input.is_scalable and not is_fixed and not self._is_compiled

    def scale_input(self, scale: float) -> None:
        """Makes the network's input smaller from the next images on; labels keep their size.

        Args:
            scale: of the sides that were loaded with, above 0 and up to 1.

        Raises:
            ConfigurationError: another scale, or one below 1 where `can_scale_input` is false.
        """
        if not 0.0 < scale <= 1.0 or (scale < 1.0 and not self.can_scale_input):
            raise ConfigurationError(
                f'expected an input scale of {"0 to 1" if self.can_scale_input else "1"}, as '
                f'{self.card.name} takes it, got {scale}'
            )
        self._preprocessor.size_hw = scaled_size_hw(self._input, scale)

    @property
    def classes(self) -> ClassTable:
        """What the label values mean, where the results do not say something else."""
        return self.card.classes if self._worded is None else self._worded.vocabulary.classes

    @property
    def takes_prompts(self) -> bool:
        """Whether the model segments what prompts point at."""
        return self.card.output.kind == 'prompts'

    @property
    def takes_words(self) -> bool:
        """Whether the model segments what words name."""
        return self._worded is not None

    @property
    def words(self) -> tuple[str, ...]:
        """What the model looks for; they are its classes, after background."""
        return self.classes.names[1:] if self._worded is not None else ()

    @words.setter
    def words(self, words: Sequence[str]) -> None:
        self.use_words(self.prepare_words(words))

    def prepare_words(self, words: Sequence[str]) -> Vocabulary:
        """Makes words ready for `use_words`; for any thread, while another one segments.

        Raises:
            ConfigurationError: the words cannot be, or the model does not take any.
            InferenceError: the model failed on them.
        """
        if self._worded is None:
            raise ConfigurationError(
                f'words: expected none, because {self.card.name} has classes of its own, got '
                f"'{', '.join(words)}'; use a model that takes words"
            )
        return self._worded.prepare(words)

    def use_words(self, vocabulary: Vocabulary) -> None:
        """Looks for other words from the next images on; results say what their labels mean."""
        assert self._worded is not None
        self._worded.use(vocabulary)

    @property
    def has_confidence(self) -> bool:
        """Whether the model gives scores; one that gives labels only has no confidence."""
        return self.card.output.has_scores

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
        """What the model is understood to be, and what runs it where and how, for people."""
        return {**self.card.about(), **self._backend.description()}

    def condition(self) -> Mapping[str, str]:
        """Who makes labels now, for people."""
        return {'labels_from': self.card.label_source}

    @property
    def concern(self) -> str:
        """What is wrong although labels are made; '' for nothing."""
        return ''

    def input_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of the model's input for images of a size."""
        return self._preprocessor.plan(source_hw).input_hw

    def warm_up(self, source_hw: tuple[int, int] = (480, 640), batch: int = 1) -> None:
        """Segments black images, so that the first real frame is not slow and no surprise.

        Raises:
            InferenceError: the model cannot run, or gives what cannot be.
        """
        self._backend.warm_up(self.input_hw(source_hw), batch)
        for _ in range(1 if self._graphs is None else 2):  # the second time is captured
            self.segment(
                [np.zeros((*source_hw, 3), np.uint8)] * batch,
                prompts=[()] * batch if self.takes_prompts else None,
            )

    def segment(
        self,
        images: Sequence[Image],
        *,
        prompts: Sequence[Sequence[Prompt]] | None = None,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> list[Segmentation]:
        """Segments images of any sizes and encodings, batched where their input sizes agree.

        Args:
            images: frames, compressed frames, or RGB arrays of shape (Y, X, 3), uint8.
            prompts: what to segment in each image, for models that want to be told; the classes
                of a result are then background and the names of its prompts. An image with none
                has no objects.
            confidence: whether to compute confidence too.
            objects: whether to tell objects apart too, where the model does.
            output_size_hw: size of the results; each image's own where None.

        Returns:
            One result per image, in order; arrays are the caller's to keep. Labels are exactly
            the argmax of the bilinearly upsampled logits; confidence is the winning softmax
            probability on the model's grid, upsampled bilinearly. Of a model that gives objects
            they are the class and the score of the object at each pixel.

        Raises:
            InputError: an image or a prompt cannot be used; none is segmented then.
            InferenceError: the model failed, or gave something that is not a number.
            ConfigurationError: ``output_size_hw`` cannot be, prompts are missing or not for this
                model.
        """
        return self.start(
            images,
            prompts=prompts,
            confidence=confidence,
            objects=objects,
            output_size_hw=output_size_hw,
        ).results()

    def start(
        self,
        images: Sequence[Image],
        *,
        prompts: Sequence[Sequence[Prompt]] | None = None,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> PendingSegmentations:
        """Begins what `segment` does: all but the postprocessing; on a GPU it waits for nothing.

        To keep the model busy, start the next images before asking for these results, or while
        another thread asks for them; see `stream`.

        Args:
            images: see `segment`; their bytes are free on return.
            prompts: see `segment`.
            confidence: see `segment`.
            objects: see `segment`.
            output_size_hw: see `segment`.

        Returns:
            What gives the results.

        Raises:
            InputError, InferenceError, ConfigurationError: see `segment`. Some errors come from
                ``results`` only.
        """
        if output_size_hw is not None and not (
            len(output_size_hw) == 2 and min(output_size_hw) > 0
        ):
            raise ConfigurationError(
                f'expected output_size_hw of two positive numbers, got {output_size_hw}'
            )
        check_prompts(self.card, prompts, len(images))
        wanted = Wanted(confidence, objects, output_size_hw, self.confidence_threshold)
        use_threads(self._num_threads)
        clock = StageClock(self.device)
        with clock.host_stage('decode'):
            frames = [to_frame(image, self._max_pixels) for image in images]
        # A device reports what a kernel did at any later call, in whichever stage that is.
        failures = device_failures(self.card.name, f'on {len(images)} image(s)')
        with failures, torch.inference_mode():
            downloads = self._replayed(frames, wanted, clock)
            if downloads is not None:
                return PendingSegmentations(self.card, frames, downloads, clock)
            parts, make_last = self._stages(frames, wanted, clock.stage, prompts=prompts)
            if self._stream is not None:
                parts, make_last = parts + make_last(), list

            def rest() -> list[Download]:
                use_threads(self._num_threads)
                with failures, torch.inference_mode():
                    return self._download(make_last())

            return PendingSegmentations(self.card, frames, self._download(parts), clock, rest)

    def _replayed(
        self, frames: Sequence[Frame], wanted: Wanted, clock: StageClock
    ) -> list[Download] | None:
        """The stages as one CUDA graph; None where there is none for such frames."""
        if self._graphs is None or not frames or not self._preprocessor.takes_sources(frames):
            return None
        shapes = tuple((f.encoding, f.height, f.width, f.step) for f in frames)
        kind = wanted, self._preprocessor.size_hw, shapes
        with clock.stage('replay'), translated(self.card.name, 'replaying its graph'):
            return self._graphs.run(
                kind,
                [frame_bytes(frame, max_pixels=self._max_pixels) for frame in frames],
                lambda sources: self._all_parts(frames, wanted, sources),
                self._download,
            )

    def _all_parts(
        self, frames: Sequence[Frame], wanted: Wanted, sources: Sequence[torch.Tensor]
    ) -> list[Part]:
        parts, make_last = self._stages(frames, wanted, lambda _: nullcontext(), sources)
        return parts + make_last()

    def _download(self, parts: Sequence[Part]) -> list[Download]:
        return [Download(part, self._stream) for part in parts]

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
            [(batch_B3HW, _, [geometry])] = self._preprocessor([to_frame(image, self._max_pixels)])
            output = self._backend.infer(batch_B3HW)
            if output.logits_BCHW is None or output.is_probabilities:
                raise InferenceError(
                    f'{self.card.name}: expected a model that gives logits, '
                    f'got {self.card.output.kind}'
                )
            logits_CHW = output.logits_BCHW[0]
            grid_hw = tuple(logits_CHW.shape[1:])
            sampler = self._finish.sampler(grid_hw, geometry, geometry.source_hw)
            return torch.stack([sampler.resample(logits_HW) for logits_HW in logits_CHW])

    def free_caches(self) -> None:
        """Gives back, on the device too, all memory that the next call can do without."""
        if self._graphs is not None:
            self._graphs.forget()
        self._backend.free_caches()
        self._finish.forget()
        self._preprocessor.free_buffers()
        give_memory_back(self.device)

    def close(self) -> None:
        """Frees the model's memory, on the device too; the segmenter cannot be used afterwards."""
        if self._graphs is not None:
            self._graphs.close()
        self._finish.forget()
        self._backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The stages of a batch of frames on the model's device: preprocess, infer, postprocess.

Legend: B batch, H/W network input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import cast

import torch

from seg_perception.backends import Backend, ModelOutput
from seg_perception.backends.prompted import PromptedBackend
from seg_perception.backends.prompts import ImagePrompts
from seg_perception.imaging.preprocess import Preprocessor
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.pipeline.finishing import Finisher, Part, Wanted
from seg_perception.structures import Frame, Prompt


class Stages:
    """Runs one stage after the other.

    Args:
        preprocess: makes the model's input.
        backend: the model.
        finish: makes results of its output.
    """

    def __init__(self, preprocess: Preprocessor, backend: Backend, finish: Finisher) -> None:
        self._preprocess = preprocess
        self._backend = backend
        self._finish = finish

    def __call__(
        self,
        frames: Sequence[Frame],
        wanted: Wanted,
        stage: Callable[[str], AbstractContextManager[None]],
        sources: Sequence[torch.Tensor] | None = None,
        prompts: Sequence[Sequence[Prompt]] | None = None,
    ) -> tuple[list[Part], Callable[[], list[Part]]]:
        """Results of frames of any sizes, still on the device.

        Args:
            frames: the images.
            wanted: what to make of them.
            stage: entered for each stage, by its name.
            sources: the frames' bytes on the device; only sizes and encodings of the frames are
                looked at then.
            prompts: of each frame, for a `PromptedBackend` alone.

        Returns:
            The results but for those of the last batch, and what makes these, by any thread: on
            a CPU the model is free for other frames meanwhile.
        """
        parts: list[Part] = []
        make_last: Callable[[], list[Part]] = list
        with stage('preprocess'):
            batches = self._preprocess(frames, sources)
        for batch_B3HW, indices, geometries in batches:
            for part in _parts(len(indices), self._backend.max_batch):
                parts += make_last()
                with stage('infer'):
                    if prompts is None:
                        output = self._backend.infer(batch_B3HW[part])
                    else:
                        asked = [
                            ImagePrompts.of(prompts[i], geometry)
                            for i, geometry in zip(indices[part], geometries[part], strict=True)
                        ]
                        prompted = cast(PromptedBackend, self._backend)
                        output = prompted.infer_prompted(batch_B3HW[part], asked)
                make_last = partial(
                    self._finished, stage, output, indices[part], geometries[part], wanted
                )
        return parts, make_last

    def _finished(
        self,
        stage: Callable[[str], AbstractContextManager[None]],
        output: ModelOutput,
        indices: Sequence[int],
        geometries: Sequence[ResizeGeometry],
        wanted: Wanted,
    ) -> list[Part]:
        with stage('postprocess'):
            return list(self._finish(output, indices, geometries, wanted))


def _parts(num_items: int, max_items: int | None) -> Iterator[slice]:
    """Slices of at most ``max_items`` that cover ``num_items``."""
    size = max_items or num_items
    for start in range(0, num_items, size):
        yield slice(start, start + size)

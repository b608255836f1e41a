"""From prompts in an image to what the decoder of a promptable network takes.

N objects, P prompt tokens per object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_perception.errors import PromptError
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.models.nets.prompted import BESIDE, BOTTOM_RIGHT, NOT_A_POINT, ON, TOP_LEFT
from seg_perception.structures import ClassTable, Prompt

BACKGROUND = 'background'
MAX_PROMPTS = 64
"""Things asked for in one image; each takes the decoder's time and memory."""
MAX_POINTS = 64
"""Points of one thing."""
_MAX_TOGETHER = 8
"""Objects that are decoded at once; more would only need more memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ImagePrompts:
    """All prompts of one image, in pixels of the model's input.

    Attributes:
        input_hw: size of that input.
        places_N: per object the places (P, 2) of its tokens, x and y, float32; whole numbers at
            pixel centres.
        kinds_N: per object what its places are (P,), see ``models.nets.prompted.ON``.
        class_ids_N: what each object is called, a position in ``classes``.
        classes: background, then the names of the prompts.
    """

    input_hw: tuple[int, int]
    places_N: tuple[npt.NDArray[np.float32], ...]
    kinds_N: tuple[npt.NDArray[np.int64], ...]
    class_ids_N: tuple[int, ...]
    classes: ClassTable

    def __len__(self) -> int:
        return len(self.class_ids_N)

    @classmethod
    def of(cls, prompts: Sequence[Prompt], geometry: ResizeGeometry) -> ImagePrompts:
        """Maps prompts into a model's input.

        Args:
            prompts: of one image.
            geometry: how that image is laid into the input.

        Raises:
            PromptError: a prompt is not about that image, or there are too many.
        """
        check_count(prompts)
        for prompt in prompts:
            prompt.check_within(geometry.source_hw)
        classes = prompt_classes(prompts)
        tokens = [_tokens(prompt, geometry) for prompt in prompts]
        return cls(
            input_hw=geometry.input_hw,
            places_N=tuple(places for places, _ in tokens),
            kinds_N=tuple(kinds for _, kinds in tokens),
            class_ids_N=tuple(classes.id_of(prompt.name) for prompt in prompts),
            classes=classes,
        )

    def batches(self) -> Iterator[tuple[list[int], bool]]:
        """Objects that can be decoded together, and whether their prompts leave much open.

        They have equally many tokens. One point alone can mean a thing or a part of it; a box or
        several points say more.
        """
        groups: dict[tuple[int, bool], list[int]] = {}
        for index, kinds in enumerate(self.kinds_N):
            is_open = int((kinds != NOT_A_POINT).sum()) == 1
            groups.setdefault((len(kinds), is_open), []).append(index)
        for (_, is_open), members in groups.items():
            for start in range(0, len(members), _MAX_TOGETHER):
                yield members[start : start + _MAX_TOGETHER], is_open


def check_count(prompts: Sequence[Prompt]) -> None:
    """Raises PromptError where there are more prompts or points than the model takes."""
    if len(prompts) > MAX_PROMPTS:
        raise PromptError(
            f'expected at most {MAX_PROMPTS} prompts for an image, got {len(prompts)}'
        )
    for prompt in prompts:
        num_points = len(prompt.on_xy_px) + len(prompt.beside_xy_px)
        if num_points > MAX_POINTS:
            raise PromptError(
                f'prompt {prompt.name}: expected at most {MAX_POINTS} points, got {num_points}'
            )


def prompt_classes(prompts: Sequence[Prompt]) -> ClassTable:
    """Background, then the names of the prompts in the order of their first appearance."""
    return ClassTable((BACKGROUND, *dict.fromkeys(prompt.name for prompt in prompts)))


def _tokens(
    prompt: Prompt, geometry: ResizeGeometry
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    places: list[tuple[float, float]] = [*prompt.on_xy_px, *prompt.beside_xy_px]
    kinds = [ON] * len(prompt.on_xy_px) + [BESIDE] * len(prompt.beside_xy_px)
    if prompt.box_xyxy_px is not None:
        # An edge lies half a pixel before the centre of the pixel that it begins with.
        left, top, right, bottom = (edge - 0.5 for edge in prompt.box_xyxy_px)
        places += [(left, top), (right, bottom)]
        kinds += [TOP_LEFT, BOTTOM_RIGHT]
    places_P2 = geometry.source_to_input_xy(places).astype(np.float32)
    if prompt.box_xyxy_px is None:  # as the networks were trained
        places_P2 = np.concatenate([places_P2, np.zeros((1, 2), np.float32)])
        kinds.append(NOT_A_POINT)
    return places_P2, np.array(kinds, np.int64)

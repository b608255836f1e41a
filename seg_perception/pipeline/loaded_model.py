"""What those who keep a model at work need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from seg_perception.backends.worded import Vocabulary
from seg_perception.models import ModelCard
from seg_perception.pipeline.images import Image
from seg_perception.pipeline.pending import Pending
from seg_perception.structures import ClassTable, Prompt


class LoadedModel(Protocol):
    """A `Segmenter`, or what does as it does; see there."""

    confidence_threshold: float

    @property
    def classes(self) -> ClassTable:
        """What the label values mean."""
        ...

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        ...

    @property
    def has_confidence(self) -> bool:
        """Whether the model gives scores."""
        ...

    def description(self) -> Mapping[str, str]:
        """What runs where and how, for people."""
        ...

    def condition(self) -> Mapping[str, str]:
        """Who makes labels now and how it is, for people: ``labels_from`` and what else."""
        ...

    @property
    def concern(self) -> str:
        """What is wrong although labels are made; '' for nothing."""
        ...

    def start(
        self,
        images: Sequence[Image],
        *,
        prompts: Sequence[Sequence[Prompt]] | None = None,
        confidence: bool = True,
        objects: bool = True,
        output_size_hw: tuple[int, int] | None = None,
    ) -> Pending:
        """Begins to segment images."""
        ...

    @property
    def takes_prompts(self) -> bool:
        """Whether the model segments what prompts point at."""
        ...

    def prepare_words(self, words: Sequence[str]) -> Vocabulary:
        """Makes words ready for `use_words`."""
        ...

    def use_words(self, vocabulary: Vocabulary) -> None:
        """Looks for other words from the next images on."""
        ...

    @property
    def can_scale_input(self) -> bool:
        """Whether the network's input can be made smaller."""
        ...

    def scale_input(self, scale: float) -> None:
        """Makes the network's input smaller; labels keep their size."""
        ...

    def free_caches(self) -> None:
        """Gives back all memory that the next call can do without."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...

"""Runs networks that segment what words name.

B batch, W words, H/W the model's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from seg_perception.backends.failures import translated
from seg_perception.backends.on_features import FeatureBackend
from seg_perception.backends.prompts import BACKGROUND
from seg_perception.backends.protocol import ModelOutput, RunOptions
from seg_perception.backends.torch_eager import Prepare, as_it_is, run_on_zeros
from seg_perception.errors import ConfigurationError, InferenceError
from seg_perception.models.card import ModelCard
from seg_perception.models.nets.worded import WordedNetwork
from seg_perception.structures import BACKGROUND_NAMES, ClassTable

MAX_WORDS = 64
"""Each takes the decoder's time and memory."""
MAX_WORD_LENGTH = 200


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Words as a model looks for them.

    Attributes:
        classes: background, then the words.
        embeddings_WD: on the model's device; None for no words.
    """

    classes: ClassTable
    embeddings_WD: torch.Tensor | None = None


class WordedBackend(FeatureBackend):
    """A `Backend` whose classes are background and words, which can be changed at any time.

    A place where no word is more likely than not is background.

    Attributes:
        vocabulary: what is looked for, see `use`; nothing at first, which leaves nothing but
            background.

    Args:
        network: taken over and changed.
        card: the model's.
        options: how to run it.
        prepare: see `TorchBackend`; for the encoder.
    """

    def __init__(
        self,
        network: WordedNetwork,
        card: ModelCard,
        options: RunOptions,
        prepare: Prepare = as_it_is,
    ) -> None:
        super().__init__(network.encoder, network, card, options, prepare)
        self._network: WordedNetwork | None = network
        self.vocabulary = Vocabulary(word_classes(()))

    def prepare(self, words: Sequence[str]) -> Vocabulary:
        """Words as the model looks for them, for `use`; for any thread.

        Raises:
            ConfigurationError: see `word_classes`.
            InferenceError: the model failed on them.
        """
        classes = word_classes(words)
        if self._network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        embeddings_WD = None
        if words:
            with torch.inference_mode(), translated(self._card.name, f'on the words {words}'):
                embeddings_WD = self._network.embed(words)
        return Vocabulary(classes, embeddings_WD)

    def use(self, vocabulary: Vocabulary) -> None:
        """Looks for other words from the next images on."""
        self.vocabulary = vocabulary

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`."""
        vocabulary = self.vocabulary
        embeddings_WD = vocabulary.embeddings_WD
        if self._network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        num_images = len(batch_B3HW)
        with torch.inference_mode():
            if embeddings_WD is None:
                logits_BCHW = torch.zeros(num_images, 1, 1, 1, device=self.device)
            else:
                features = self._features(batch_B3HW)
                with translated(self._card.name, f'on {len(embeddings_WD)} words'):
                    logits_BWHW = self._network.decode(features, embeddings_WD)
                # Against a background of 0 a single word's softmax is its own sigmoid.
                logits_BCHW = F.pad(logits_BWHW, (0, 0, 0, 0, 1, 0))
        return ModelOutput(logits_BCHW=logits_BCHW, classes=(vocabulary.classes,) * num_images)

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`; with one word, where there is none."""
        vocabulary = self.vocabulary
        if vocabulary.embeddings_WD is None:
            self.vocabulary = self.prepare(['object'])
        try:
            run_on_zeros(self, input_hw, batch)
        finally:
            self.vocabulary = vocabulary

    def close(self) -> None:
        """See `Backend.close`."""
        self._network = None
        self.vocabulary = Vocabulary(self.vocabulary.classes)
        super().close()


def word_classes(words: Sequence[str]) -> ClassTable:
    """Background, then the words.

    Raises:
        ConfigurationError: too many words, one is repeated, empty, too long or background.
    """
    if len(words) > MAX_WORDS:
        raise ConfigurationError(f'expected at most {MAX_WORDS} words, got {len(words)}')
    for word in words:
        if not word.strip() or len(word) > MAX_WORD_LENGTH or word in BACKGROUND_NAMES:
            raise ConfigurationError(
                f'words: expected names of things of 1 to {MAX_WORD_LENGTH} characters, got '
                f"'{word}'"
            )
    return ClassTable((BACKGROUND, *words))

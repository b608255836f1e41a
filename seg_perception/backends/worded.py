"""Runs networks that segment what words name.

B batch, W words, H/W the model's grid.
"""

from __future__ import annotations

from collections.abc import Sequence

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


class WordedBackend(FeatureBackend):
    """A `Backend` whose classes are background and words, which can be changed at any time.

    A place where no word is more likely than not is background.

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
        # One assignment changes both, so that another thread may infer meanwhile.
        self._vocabulary: tuple[ClassTable, torch.Tensor | None]
        self._vocabulary = (word_classes(()), None)

    @property
    def classes(self) -> ClassTable:
        """Background and the words."""
        return self._vocabulary[0]

    def set_words(self, words: Sequence[str]) -> None:
        """Changes what is looked for; none leaves nothing but background.

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
        self._vocabulary = (classes, embeddings_WD)

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`."""
        classes, embeddings_WD = self._vocabulary
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
        return ModelOutput(logits_BCHW=logits_BCHW, classes=(classes,) * num_images)

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`; with one word, where there is none."""
        vocabulary = self._vocabulary
        if len(self.classes) == 1:
            self.set_words(['object'])
        run_on_zeros(self, input_hw, batch)
        self._vocabulary = vocabulary

    def close(self) -> None:
        """See `Backend.close`."""
        self._network = None
        self._vocabulary = (self.classes, None)
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

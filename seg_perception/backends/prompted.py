"""Runs networks that segment what prompts point at.

N objects, P prompt tokens per object, H/W the masks' grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seg_perception.backends.failures import translated
from seg_perception.backends.on_features import FeatureBackend
from seg_perception.backends.outputs import refuse_nan
from seg_perception.backends.prompts import ImagePrompts
from seg_perception.backends.protocol import InstanceOutput, ModelOutput, RunOptions
from seg_perception.backends.torch_eager import Prepare, as_it_is
from seg_perception.errors import InferenceError
from seg_perception.imaging.resize_plan import plan_resize
from seg_perception.models.card import ModelCard
from seg_perception.models.nets.prompted import PromptedNetwork
from seg_perception.structures import Prompt


class PromptedBackend(FeatureBackend):
    """A `Backend` that has to be told what to segment.

    Args:
        network: taken over and changed.
        card: the model's.
        options: how to run it.
        prepare: see `TorchBackend`; for the encoder.
    """

    def __init__(
        self,
        network: PromptedNetwork,
        card: ModelCard,
        options: RunOptions,
        prepare: Prepare = as_it_is,
    ) -> None:
        super().__init__(network.encoder, network, card, options, prepare, network.input_hw_fixed)
        self._network: PromptedNetwork | None = network

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`; without prompts nothing can be done.

        Raises:
            InferenceError: always.
        """
        raise InferenceError(
            f'{self._card.name}: expected prompts, because it segments what boxes and points show'
        )

    def infer_prompted(
        self, batch_B3HW: torch.Tensor, prompts: Sequence[ImagePrompts]
    ) -> ModelOutput:
        """Masks of what the prompts of each image point at, in their order.

        Images without prompts cost nothing. The scores are how well the model expects each mask
        to fit (intersection over union).

        Args:
            batch_B3HW: see `Backend.infer`.
            prompts: one item per image.

        Raises:
            InferenceError: the input does not fit or the model failed on it.
        """
        network = self._network
        if network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        with torch.inference_mode():
            asked = [i for i, image_prompts in enumerate(prompts) if len(image_prompts)]
            features: tuple[torch.Tensor, ...] = ()
            if asked:
                is_all = len(asked) == len(batch_B3HW)
                features = self._features(batch_B3HW if is_all else batch_B3HW[asked])
            instances = [_nothing(self.device)] * len(prompts)
            for position, i in enumerate(asked):
                of_image = tuple(tensor[position : position + 1] for tensor in features)
                with translated(self._card.name, f'on {len(prompts[i])} prompts'):
                    instances[i] = self._decoded(network, of_image, prompts[i])
        classes = tuple(image_prompts.classes for image_prompts in prompts)
        return ModelOutput(instances=tuple(instances), classes=classes)

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`; with one box for each image."""
        height, width = input_hw
        batch = min(batch, self.max_batch or batch)
        geometry = plan_resize(input_hw, input_hw, 'stretch')
        prompts = ImagePrompts.of([Prompt(box_xyxy_px=(0, 0, width, height))], geometry)
        zeros = torch.zeros(batch, 3, height, width, device=self.device, dtype=self.dtype)
        for _ in range(2):  # the second run sees allocations and autotuning of the first done
            self.infer_prompted(zeros, [prompts] * batch)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """See `Backend.close`."""
        self._network = None
        super().close()

    def _decoded(
        self,
        network: PromptedNetwork,
        features: tuple[torch.Tensor, ...],
        prompts: ImagePrompts,
    ) -> InstanceOutput:
        masks_N: dict[int, torch.Tensor] = {}
        scores_N: dict[int, torch.Tensor] = {}
        for members, is_open in prompts.batches():
            places_NP2 = np.stack([prompts.places_N[i] for i in members])
            kinds_NP = np.stack([prompts.kinds_N[i] for i in members])
            masks_NHW, fits_N = network.decode(
                features,
                prompts.input_hw,
                torch.from_numpy(places_NP2).to(self.device),
                torch.from_numpy(kinds_NP).to(self.device),
                best_of_several=is_open,
            )
            masks_N |= zip(members, masks_NHW, strict=True)
            scores_N |= zip(members, fits_N, strict=True)
        order = range(len(prompts))
        mask_logits_NHW = torch.stack([masks_N[i] for i in order])
        # An expected intersection over union is a regression, which may say a little above 1.
        fits_N = torch.stack([scores_N[i] for i in order]).clamp(0.0, 1.0)
        refuse_nan((mask_logits_NHW, fits_N), self._card)
        return InstanceOutput(
            mask_logits_NHW=mask_logits_NHW,
            scores_N=fits_N,
            class_ids_N=torch.tensor(prompts.class_ids_N, device=self.device),
        )


def _nothing(device: torch.device) -> InstanceOutput:
    return InstanceOutput(
        mask_logits_NHW=torch.zeros(0, 1, 1, device=device),
        scores_N=torch.zeros(0, device=device),
        class_ids_N=torch.zeros(0, dtype=torch.int64, device=device),
    )

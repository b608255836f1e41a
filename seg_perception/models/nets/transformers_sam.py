"""SAM and SAM 2 of the library transformers as promptable networks.

A. Kirillov et al., arXiv:2304.02643; N. Ravi et al., arXiv:2408.00714. This module does not
import the library: it is given the loaded model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seg_perception.models.nets.prompted import BESIDE, ON, TOP_LEFT, PromptedNetwork


class ImageEncoder(nn.Module):
    """The part of a SAM that sees the image, without anything that its decoder uses too.

    Args:
        vision_encoder: of transformers' SamModel or Sam2Model.
    """

    def __init__(self, vision_encoder: nn.Module) -> None:
        super().__init__()
        self.vision_encoder = vision_encoder

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Image embeddings: SAM has one, SAM 2 several, the coarsest last."""
        seen = self.vision_encoder(batch_B3HW)
        levels = getattr(seen, 'fpn_hidden_states', None)
        return (seen.last_hidden_state,) if levels is None else tuple(levels)


class TransformersSam(PromptedNetwork):
    """SAM; see `PromptedNetwork`.

    Args:
        model: transformers' SamModel or Sam2Model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._encoder = ImageEncoder(model.vision_encoder)
        side = int(model.config.prompt_encoder_config.image_size)
        self.input_hw_fixed = (side, side)

    @property
    def encoder(self) -> nn.Module:
        """See `PromptedNetwork.encoder`."""
        return self._encoder

    def decode(
        self,
        features: tuple[torch.Tensor, ...],
        input_hw: tuple[int, int],
        places_NP2: torch.Tensor,
        kinds_NP: torch.Tensor,
        *,
        best_of_several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PromptedNetwork.decode`."""
        # All objects have the same kinds of tokens; the library adds what is no point itself.
        is_point_P = (kinds_NP[0] == ON) | (kinds_NP[0] == BESIDE)
        is_corner_P = kinds_NP[0] >= TOP_LEFT
        given: dict[str, torch.Tensor] = {}
        if is_point_P.any():
            given['input_points'] = places_NP2[None, :, is_point_P]
            given['input_labels'] = kinds_NP[None, :, is_point_P]
        if is_corner_P.any():
            given['input_boxes'] = places_NP2[None, :, is_corner_P].flatten(2)
        found = self.model(
            image_embeddings=self._embeddings(features), multimask_output=best_of_several, **given
        )
        masks_NKHW, fits_NK = found.pred_masks[0], found.iou_scores[0]
        best_N = fits_NK.argmax(1)
        each_N = torch.arange(len(best_N), device=best_N.device)
        return masks_NKHW[each_N, best_N], fits_NK[each_N, best_N]

    def _embeddings(self, features: tuple[torch.Tensor, ...]) -> Any:
        """As the library's own ``get_image_embeddings`` makes them."""
        return features[0]


class TransformersSam2(TransformersSam):
    """SAM 2 on single images; see `TransformersSam`."""

    def _embeddings(self, features: tuple[torch.Tensor, ...]) -> Any:
        decoder = self.model.mask_decoder
        fine, middle, coarse = features
        # The network was made for video; this says that there was no frame before.
        alone = coarse + self.model.no_memory_embedding.view(1, -1, 1, 1)
        return [decoder.conv_s0(fine), decoder.conv_s1(middle), alone]

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
    """The part of a SAM that sees the image, as a module of its own.

    Args:
        model: transformers' SamModel or Sam2Model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Image embeddings, the coarsest last (SAM has only that)."""
        embeddings = self.model.get_image_embeddings(batch_B3HW)
        return (embeddings,) if isinstance(embeddings, torch.Tensor) else tuple(embeddings)


class TransformersSam(PromptedNetwork):
    """SAM or SAM 2; see `PromptedNetwork`. Takes square images of one size.

    Args:
        model: transformers' SamModel or Sam2Model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._encoder = ImageEncoder(model)

    @property
    def encoder(self) -> nn.Module:
        """See `PromptedNetwork.encoder`."""
        return self._encoder

    def decode(
        self,
        features: Any,
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
        embeddings = list(features) if len(features) > 1 else features[0]
        found = self.model(image_embeddings=embeddings, multimask_output=best_of_several, **given)
        masks_NKHW, fits_NK = found.pred_masks[0], found.iou_scores[0]
        best_N = fits_NK.argmax(1)
        each_N = torch.arange(len(best_N), device=best_N.device)
        return masks_NKHW[each_N, best_N], fits_NK[each_N, best_N]

"""MobileSAM: Segment Anything's prompt encoder and mask decoder behind a TinyViT.

C. Zhang et al., arXiv:2306.14289; A. Kirillov et al., arXiv:2304.02643. Parameters have the names
of the published ``mobile_sam.pt``, of which two parts are left out: the encoder's classifier and
the encoder of mask prompts.

N objects, T tokens, P prompt tokens among them, K masks per object, C channels, H/W the grid of
the tensor at hand, L its cells in a row.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.models.nets.prompted import NOT_A_POINT, PromptedNetwork
from seg_perception.models.nets.tinyvit import EMBEDDING_CHANNELS, ChannelNorm, TinyViT

NUM_MASKS = 4
"""One mask for prompts that leave nothing open, three for those that do."""
NUM_KINDS = 4
"""Kinds of places with an embedding of their own: `BESIDE` to `BOTTOM_RIGHT`."""

_HEADS = 8
_DEPTH = 2
_MLP_CHANNELS = 2048


class Fourier(nn.Module):
    """Places as sines and cosines of random frequencies."""

    positional_encoding_gaussian_matrix: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        matrix = torch.randn(2, channels // 2)
        self.register_buffer('positional_encoding_gaussian_matrix', matrix)

    def forward(self, places_2: torch.Tensor) -> torch.Tensor:
        """Places (..., 2), x and y as fractions of the image, to (..., channels)."""
        angles = 2 * math.pi * ((2 * places_2 - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], -1)


class PromptEncoder(nn.Module):
    """Prompt tokens, and the embeddings of the grid's own places."""

    def __init__(self, channels: int = EMBEDDING_CHANNELS) -> None:
        super().__init__()
        self.pe_layer = Fourier(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(NUM_KINDS))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.no_mask_embed = nn.Embedding(1, channels)

    def forward(
        self, places_NP2: torch.Tensor, kinds_NP: torch.Tensor, input_hw: tuple[int, int]
    ) -> torch.Tensor:
        """Tokens (N, P, channels); see `PromptedNetwork.decode` for the arguments."""
        size_wh = places_NP2.new_tensor((input_hw[1], input_hw[0]))
        # Whole numbers are pixel centres; the image starts half a pixel before the first.
        tokens_NPC: torch.Tensor = self.pe_layer((places_NP2 + 0.5) / size_wh)
        tokens_NPC = tokens_NPC * (kinds_NP != NOT_A_POINT)[..., None]
        kinds = [*self.point_embeddings, self.not_a_point_embed]  # -1, no point, picks the last
        embeddings = torch.cat([cast(nn.Embedding, kind).weight for kind in kinds])
        return tokens_NPC + embeddings[kinds_NP]

    def of_grid(self, grid_hw: tuple[int, int]) -> torch.Tensor:
        """Embeddings (channels, H, W) of the centres of a grid's cells."""
        device = self.no_mask_embed.weight.device
        y_H, x_W = ((torch.arange(side, device=device) + 0.5) / side for side in grid_hw)
        y_HW, x_HW = torch.meshgrid(y_H, x_W, indexing='ij')
        embeddings_HWC: torch.Tensor = self.pe_layer(torch.stack([x_HW, y_HW], -1))
        return embeddings_HWC.permute(2, 0, 1)


class Attention(nn.Module):
    """Attention of one set of tokens to another, in fewer channels."""

    def __init__(self, channels: int, reduction: int = 1) -> None:
        super().__init__()
        inner = channels // reduction
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(
        self, query_NTC: torch.Tensor, key_NLC: torch.Tensor, value_NLC: torch.Tensor
    ) -> torch.Tensor:
        """What each query finds, (N, T, C); what all objects share may have a batch of 1."""
        query, key, value = self.q_proj(query_NTC), self.k_proj(key_NLC), self.v_proj(value_NLC)
        num = max(len(query), len(key))
        mixed = F.scaled_dot_product_attention(
            _by_head(query, num), _by_head(key, num), _by_head(value, num)
        )
        found_NTC: torch.Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return found_NTC


def _by_head(x_NTC: torch.Tensor, num: int) -> torch.Tensor:
    return x_NTC.unflatten(-1, (_HEADS, -1)).transpose(1, 2).expand(num, -1, -1, -1)


class TokenMlp(nn.Module):
    """Two linear layers on each token."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(channels, _MLP_CHANNELS)
        self.lin2 = nn.Linear(_MLP_CHANNELS, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The shape stays."""
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens."""

    def __init__(self, channels: int, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = Attention(channels, 2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = TokenMlp(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = Attention(channels, 2)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        token_places: torch.Tensor,
        image_places: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, T, C) and image (N or 1, L, C), and what says where each of them is."""
        if self.is_first:  # the tokens are nothing but their places yet
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_places
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_places
        tokens = tokens + self.cross_attn_token_to_image(
            tokens + token_places, placed_image, image
        )
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(placed_image, tokens + token_places, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Mixes tokens and image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(channels, is_first=index == 0) for index in range(_DEPTH)
        )
        self.final_attn_token_to_image = Attention(channels, 2)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(
        self, tokens_NTC: torch.Tensor, image_NLC: torch.Tensor, image_places_1LC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, T, C) and image (N, L, C) after all layers, of an image that is (1, L, C)."""
        places_NTC = tokens_NTC
        for layer in self.layers:
            tokens_NTC, image_NLC = layer(tokens_NTC, image_NLC, places_NTC, image_places_1LC)
        found_NTC = self.final_attn_token_to_image(
            tokens_NTC + places_NTC, image_NLC + image_places_1LC, image_NLC
        )
        return self.norm_final_attn(tokens_NTC + found_NTC), image_NLC


class Mlp(nn.Module):
    """Three linear layers."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(channels, channels),
                nn.Linear(channels, channels),
                nn.Linear(channels, out_channels),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., channels) to (..., out_channels)."""
        for layer in list(self.layers)[:-1]:
            x = F.relu(layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out


class MaskDecoder(nn.Module):
    """Masks, and how well each is expected to fit, from image embeddings and prompt tokens."""

    def __init__(self, channels: int = EMBEDDING_CHANNELS) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(channels)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(NUM_MASKS, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, 2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(channels, channels // 8) for _ in range(NUM_MASKS)
        )
        self.iou_prediction_head = Mlp(channels, NUM_MASKS)

    def forward(
        self,
        image_1CHW: torch.Tensor,
        image_places_CHW: torch.Tensor,
        prompts_NPC: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (N, 4, 4 H, 4 W) and expected intersections over unions (N, 4)."""
        own_TC = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens_NTC = torch.cat([own_TC.expand(len(prompts_NPC), -1, -1), prompts_NPC], 1)
        tokens_NTC, image_NLC = self.transformer(
            tokens_NTC,
            image_1CHW.flatten(2).transpose(1, 2),
            image_places_CHW[None].flatten(2).transpose(1, 2),
        )
        image_NCHW = image_NLC.transpose(1, 2).unflatten(2, image_1CHW.shape[2:])
        fine_NCHW = self.output_upscaling(image_NCHW)
        filters_NKC = torch.stack(
            [
                mlp(tokens_NTC[:, 1 + index])
                for index, mlp in enumerate(self.output_hypernetworks_mlps)
            ],
            1,
        )
        masks_NKHW = (filters_NKC @ fine_NCHW.flatten(2)).unflatten(2, fine_NCHW.shape[2:])
        return masks_NKHW, self.iou_prediction_head(tokens_NTC[:, 0])


class MobileSAM(PromptedNetwork):
    """The whole network; see `PromptedNetwork`."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()

    @property
    def encoder(self) -> nn.Module:
        """See `PromptedNetwork.encoder`."""
        return self.image_encoder

    def decode(
        self,
        features: tuple[torch.Tensor, ...],
        input_hw: tuple[int, int],
        places_NP2: torch.Tensor,
        kinds_NP: torch.Tensor,
        *,
        best_of_several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PromptedNetwork.decode`; the masks' grid is four times coarser than the input."""
        prompts_NPC = self.prompt_encoder(places_NP2, kinds_NP, input_hw)
        image_1CHW = features[0] + self.prompt_encoder.no_mask_embed.weight[..., None, None]
        places_CHW = self.prompt_encoder.of_grid((image_1CHW.shape[2], image_1CHW.shape[3]))
        masks_NKHW, fits_NK = self.mask_decoder(image_1CHW, places_CHW, prompts_NPC)
        if not best_of_several:
            return masks_NKHW[:, 0], fits_NK[:, 0]
        best_N = fits_NK[:, 1:].argmax(1) + 1
        each_N = torch.arange(len(best_N), device=best_N.device)
        return masks_NKHW[each_N, best_N], fits_NK[each_N, best_N]

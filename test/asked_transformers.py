"""Small models of transformers that are asked: SAM, SAM 2 and CLIPSeg with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

hf = pytest.importorskip('transformers', reason='transformers (extra hf) is not installed')


def sam(folder: Path) -> Any:
    sizes = {'image_size': 64, 'patch_size': 16}
    tiny = {'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'mlp_dim': 32}
    model = hf.SamModel(
        hf.SamConfig(
            vision_config={**tiny, **sizes, 'num_pos_feats': 128, 'global_attn_indexes': [0]},
            prompt_encoder_config={**sizes, 'image_embedding_size': 4},
        )
    )
    side = {'height': 64, 'width': 64}
    hf.SamImageProcessor(size={'longest_edge': 64}, pad_size=side).save_pretrained(folder)
    return model


def sam2(folder: Path) -> Any:
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        window_positional_embedding_background_size=[2, 2],
        global_attention_blocks=[3],
    )
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=256,
    )
    model = hf.Sam2Model(
        hf.Sam2Config(
            vision_config=vision, prompt_encoder_config={'image_size': 64, 'patch_size': 16}
        )
    )
    # the library's processor needs torchvision, its config does not
    config = {'image_processor_type': 'Sam2ImageProcessor', 'size': {'height': 64, 'width': 64}}
    (folder / 'preprocessor_config.json').write_text(json.dumps(config))
    return model


def clipseg(folder: Path) -> Any:
    tiny = {'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 3}
    tiny |= {'num_attention_heads': 2, 'projection_dim': 16}
    tokenizer = word_tokenizer(folder)
    text = {**tiny, 'vocab_size': len(tokenizer), 'max_position_embeddings': 32}
    text |= {'bos_token_id': 0, 'eos_token_id': tokenizer.eos_token_id, 'pad_token_id': 1}
    model = hf.CLIPSegForImageSegmentation(
        hf.CLIPSegConfig(
            text_config=text,
            vision_config={**tiny, 'image_size': 64, 'patch_size': 16},
            projection_dim=16,
            extract_layers=[0, 1, 2],
            reduce_dim=16,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        )
    )
    model.decoder.transposed_convolution.weight.data *= 20.0
    hf.ViTImageProcessor(size={'height': 64, 'width': 64}).save_pretrained(folder)
    return model


def word_tokenizer(folder: Path) -> Any:
    """A tokenizer of letters, as CLIP has them."""
    letters = [*'abcdefghijklmnopqrstuvwxyz']
    vocabulary = ['<|startoftext|>', '<|endoftext|>', *letters, *(f'{c}</w>' for c in letters)]
    (folder / 'vocab.json').write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    tokenizer = hf.CLIPTokenizer(str(folder / 'vocab.json'), str(folder / 'merges.txt'))
    tokenizer.save_pretrained(folder)
    return tokenizer


def written(make: Any, folder: Path) -> Any:
    """A model, as the library reads it back."""
    torch.manual_seed(0)
    model = make(folder)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()

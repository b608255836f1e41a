"""Small models of transformers with random weights, written by the library itself.

The last layers' weights are spread so that the classes vary over an image.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from skimage import data

NUM_LABELS = 7
LABELS = {i: f'thing {i}' for i in range(NUM_LABELS)}
_SWIN: dict[str, Any] = {
    'embed_dim': 12,
    'depths': [1, 1, 1, 1],
    'num_heads': [1, 1, 2, 2],
    'window_size': 4,
    'image_size': 64,
}
_STAGES = ['stage1', 'stage2', 'stage3', 'stage4']


def _labels() -> dict[str, Any]:
    return {'id2label': LABELS, 'label2id': {name: i for i, name in LABELS.items()}}


def segformer() -> Any:
    return hf.SegformerForSemanticSegmentation(
        hf.SegformerConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            **_labels(),
        )
    )


def upernet() -> Any:
    backbone = hf.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=_STAGES
    )
    return hf.UperNetForSemanticSegmentation(
        hf.UperNetConfig(
            backbone_config=backbone,
            hidden_size=16,
            pool_scales=[1, 2],
            auxiliary_channels=8,
            auxiliary_in_channels=16,
            **_labels(),
        )
    )


def dpt() -> Any:
    return hf.DPTForSemanticSegmentation(
        hf.DPTConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=64,
            patch_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=16,
            auxiliary_loss_weight=0.4,
            is_hybrid=False,
            **_labels(),
        )
    )


def beit() -> Any:
    return hf.BeitForSemanticSegmentation(
        hf.BeitConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=64,
            patch_size=16,
            out_indices=[1, 2, 3, 4],
            use_relative_position_bias=True,
            pool_scales=[1, 2],
            auxiliary_channels=8,
            **_labels(),
        )
    )


def mobilevit() -> Any:
    return hf.MobileViTForSemanticSegmentation(
        hf.MobileViTConfig(
            hidden_sizes=[16, 16, 16],
            neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 16],
            num_attention_heads=2,
            aspp_out_channels=16,
            atrous_rates=[1, 2, 3],
            output_stride=16,
            **_labels(),
        )
    )


def mobilenet_v2() -> Any:
    return hf.MobileNetV2ForSemanticSegmentation(
        hf.MobileNetV2Config(depth_multiplier=0.35, output_stride=16, **_labels())
    )


def maskformer() -> Any:
    return hf.MaskFormerForInstanceSegmentation(
        hf.MaskFormerConfig(
            fpn_feature_size=32,
            mask_feature_size=32,
            backbone_config=hf.SwinConfig(out_features=_STAGES, **_SWIN),
            decoder_config=hf.DetrConfig(
                d_model=32,
                decoder_layers=1,
                encoder_layers=1,
                decoder_attention_heads=2,
                decoder_ffn_dim=16,
                num_queries=20,
            ),
            **_labels(),
        )
    )


def mask2former() -> Any:
    return hf.Mask2FormerForUniversalSegmentation(
        hf.Mask2FormerConfig(
            backbone_config=hf.SwinConfig(out_features=_STAGES, **_SWIN),
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=16,
            dim_feedforward=16,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            num_queries=20,
            **_labels(),
        )
    )


def oneformer() -> Any:
    return hf.OneFormerForUniversalSegmentation(
        hf.OneFormerConfig(
            backbone_config=hf.SwinConfig(out_features=_STAGES, **_SWIN),
            conv_dim=32,
            mask_dim=32,
            hidden_dim=32,
            encoder_feedforward_dim=16,
            dim_feedforward=16,
            encoder_layers=1,
            decoder_layers=2,
            query_dec_layers=1,
            num_attention_heads=2,
            num_queries=20,
            text_encoder_width=32,
            text_encoder_context_length=77,
            text_encoder_num_layers=1,
            text_encoder_vocab_size=50,
            **_labels(),
        )
    )


def eomt() -> Any:
    return hf.EomtForUniversalSegmentation(
        hf.EomtConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            mlp_ratio=1,
            image_size=64,
            patch_size=16,
            num_blocks=1,
            num_queries=20,
            num_upscale_blocks=1,
            **_labels(),
        )
    )


MAKERS: dict[str, Callable[[], Any]] = {
    maker.__name__: maker
    for maker in (
        segformer,
        upernet,
        dpt,
        beit,
        mobilevit,
        mobilenet_v2,
        maskformer,
        mask2former,
        oneformer,
        eomt,
    )
}

PROCESSORS: dict[str, dict[str, Any]] = {
    'segformer': {'size': {'height': 128, 'width': 160}},
    'upernet': {'size': {'height': 128, 'width': 128}},
    'dpt': {'size': {'height': 64, 'width': 64}},
    'beit': {'size': {'height': 64, 'width': 64}},
    'mobilevit': {
        'size': {'shortest_edge': 136},
        'crop_size': {'height': 128, 'width': 128},
    },
    'mobilenet_v2': {
        'size': {'shortest_edge': 129},
        'crop_size': {'height': 129, 'width': 129},
    },
    'maskformer': {'size': {'shortest_edge': 100, 'longest_edge': 150}},
    'mask2former': {'size': {'shortest_edge': 100, 'longest_edge': 150}},
    'oneformer': {'size': {'shortest_edge': 100, 'longest_edge': 150}},
    'eomt': {'size': {'shortest_edge': 64, 'longest_edge': 64}, 'do_pad': True},
}
_PROCESSOR_OF = {'upernet': 'segformer'}


_SEEDS = {'beit': 2, 'mobilenet_v2': 2, 'oneformer': 2}  # of several classes each
# Random weights as the library makes them give one class everywhere.
_SPREADS = {
    'classifier': 1.0,
    'class_predictor': 2.0,
    'class_embed': 2.0,
    'mask_embed': 0.5,
    'mask_head': 0.5,
    'mask_projection': 0.3,
    'queries_': 2.0,
    'query_input_projection': 1.0,
    'query.weight': 2.0,
}


def write(name: str, folder: Path, **processor_options: Any) -> Any:
    """Writes a model and its image processor; gives the model."""
    torch.manual_seed(_SEEDS.get(name, 1))
    model = MAKERS[name]().eval()
    for key, tensor in model.state_dict().items():
        for part, spread in _SPREADS.items():
            if part in key and key.endswith('weight'):
                tensor.normal_(0.0, spread)
            elif part in key:
                tensor.zero_()
    _calibrate(model, 0.0 if name == 'mobilevit' else 0.05)  # whose signal is faint
    model.save_pretrained(folder)
    processor = {
        'image_processor_type': _processor_type(name),
        **PROCESSORS[name],
        **processor_options,
    }
    (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
    if name == 'oneformer':
        write_tokenizer(folder)
    return model


def _calibrate(model: Any, min_variance: float) -> None:
    """Gives batch norms statistics, lest the signal dies away, and classes equal means."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    photo = torch.from_numpy(data.astronaut()[:272:2, 60:332:2]) / 127.5 - 1
    image = photo.permute(2, 0, 1)[:, :128, :128]
    image = torch.stack([image, -0.5 * image.flip(2)])
    with torch.no_grad():
        if norms:
            model.train()(pixel_values=image)
        for norm in norms:  # no channel is blown up to hundreds
            norm.running_var.clamp_(min=min_variance)
        model.eval()
        biases = [
            bias
            for name, bias in model.named_parameters()
            if 'classifier' in name and 'auxiliary' not in name and name.endswith('bias')
        ]
        if biases:
            biases[-1] -= model(pixel_values=image).logits[0].mean((1, 2))


def _processor_type(name: str) -> str:
    model_type = _PROCESSOR_OF.get(name, name)
    names = {
        'segformer': 'Segformer',
        'dpt': 'DPT',
        'beit': 'Beit',
        'mobilevit': 'MobileViT',
        'mobilenet_v2': 'MobileNetV2',
        'maskformer': 'MaskFormer',
        'mask2former': 'Mask2Former',
        'oneformer': 'OneFormer',
        'eomt': 'Eomt',
    }
    return f'{names[model_type]}ImageProcessor'


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows the words of OneFormer's tasks."""
    words = ['the', 'task', 'is', 'semantic', 'instance', 'panoptic']
    tokens = [*sorted({c for word in words for c in word})]
    tokens += [f'{c}</w>' for c in tokens]
    merges = []
    for word in words:
        pieces = [*word[:-1], f'{word[-1]}</w>']
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            if merge not in merges:
                merges.append(merge)
                tokens.append(''.join(merge))
            pieces = [''.join(merge), *pieces[2:]]
    tokens = [*dict.fromkeys(tokens), '<|startoftext|>', '<|endoftext|>']
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / 'vocab.json').write_text(json.dumps(vocabulary))
    lines = ['#version: 0.2', *(' '.join(merge) for merge in merges)]
    (folder / 'merges.txt').write_text('\n'.join(lines) + '\n')
    (folder / 'tokenizer_config.json').write_text(
        json.dumps({'tokenizer_class': 'CLIPTokenizer', 'pad_token': '<|endoftext|>'})
    )

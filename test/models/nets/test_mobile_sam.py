"""MobileSAM: the published names and numbers, any size, a decoder that is transformers' own."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from mobile_sam_weights import mobile_sam_path, photo_batch

from seg_perception.models.nets.mobile_sam import MobileSAM
from seg_perception.models.nets.prompted import BESIDE, BOTTOM_RIGHT, NOT_A_POINT, ON, TOP_LEFT
from seg_perception.models.state_dicts import load_into, load_state_dict

CORNERS = [TOP_LEFT, BOTTOM_RIGHT]


@pytest.fixture(scope='module')
def network() -> MobileSAM:
    torch.manual_seed(0)
    return MobileSAM().eval()


def test_names_and_shapes_are_the_published_ones():
    """The digest is of ``mobile_sam.pt`` without its classifier and its mask prompts."""
    with torch.device('meta'):
        state = MobileSAM().state_dict()
    lines = sorted(f'{key} {tuple(tensor.shape)} {tensor.dtype}' for key, tensor in state.items())
    digest = hashlib.sha256('\n'.join(lines).encode()).hexdigest()
    assert (len(lines), digest[:16]) == (425, 'd712c866e01f6a18')


@pytest.mark.parametrize('input_hw', [(64, 64), (96, 160), (50, 70)])
def test_any_size(network, input_hw):
    grid_hw = tuple(-(-side // 16) for side in input_hw)
    places = torch.tensor([[[1.0, 2.0], [30.0, 40.0]]])
    with torch.inference_mode():
        features = network.encoder(torch.rand(2, 3, *input_hw))
        masks, fits = network.decode(
            (features[:1],), input_hw, places, torch.tensor([CORNERS]), best_of_several=False
        )
    assert features.shape == (2, 256, *grid_hw)
    assert masks.shape == (1, 4 * grid_hw[0], 4 * grid_hw[1])
    assert fits.shape == (1,)


PROMPTS = {
    'box': ([[[5, 6], [40, 50]], [[0, 1], [20, 63]]], [CORNERS, CORNERS]),
    'point': ([[[9.5, 30], [0, 0]], [[60, 2.25], [0, 0]]], [[ON, NOT_A_POINT]] * 2),
    'points': (
        [[[9, 30], [50, 51], [0, 0]]],
        [[ON, BESIDE, NOT_A_POINT]],
    ),
    'box and points': (
        [[[9, 30], [50, 51], [5, 6], [40, 50]]],
        [[ON, BESIDE, *CORNERS]],
    ),
}


@pytest.mark.parametrize('best_of_several', [False, True])
@pytest.mark.parametrize('prompts', PROMPTS)
def test_decoder_is_that_of_transformers(network, prompts, best_of_several):
    twin = transformers_twin(network)
    places, kinds = (torch.tensor(values) for values in PROMPTS[prompts])
    features = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    is_point = (kinds[0] == ON) | (kinds[0] == BESIDE)
    is_corner = kinds[0] >= TOP_LEFT
    with torch.inference_mode():
        masks, fits = network.decode(
            (features,), (64, 64), places.float(), kinds, best_of_several=best_of_several
        )
        expected = twin(
            image_embeddings=features,
            input_points=places[None, :, is_point].float() if is_point.any() else None,
            input_labels=kinds[None, :, is_point] if is_point.any() else None,
            input_boxes=places[None, :, is_corner].float().flatten(2) if is_corner.any() else None,
            multimask_output=best_of_several,
        )
    best = expected.iou_scores[0].argmax(1)
    each = torch.arange(len(best))
    torch.testing.assert_close(fits, expected.iou_scores[0, each, best], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(masks, expected.pred_masks[0, each, best], atol=1e-3, rtol=1e-3)


def transformers_twin(network: MobileSAM) -> torch.nn.Module:
    """transformers' SamModel with the weights of our prompt encoder and mask decoder."""
    transformers = pytest.importorskip('transformers', reason='extra: hf')
    tiny = {'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'mlp_dim': 32}
    sizes = {'image_size': 64, 'patch_size': 16}
    config = transformers.SamConfig(
        vision_config={
            **tiny,
            **sizes,
            'num_pos_feats': 128,
            'global_attn_indexes': [0],
            'window_size': 2,
        },
        prompt_encoder_config={**sizes, 'image_embedding_size': 4},
    )
    twin = transformers.SamModel(config).eval()
    state = {}
    for key, tensor in network.state_dict().items():
        if key.startswith('image_encoder'):
            continue
        for old, new in TRANSFORMERS_NAMES:
            key = re.sub(old, new, key)
        state[key] = tensor
    shared = 'shared_image_embedding.positional_embedding'
    state[shared] = state['prompt_encoder.shared_embedding.positional_embedding']
    found = twin.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert all(re.match('vision_encoder|prompt_encoder.mask_embed', k) for k in found.missing_keys)
    return twin


TRANSFORMERS_NAMES = [
    (r'pe_layer\.positional_encoding_gaussian_matrix', 'shared_embedding.positional_embedding'),
    (r'point_embeddings', 'point_embed'),
    (r'norm_final_attn', 'layer_norm_final_attn'),
    (r'\.norm(\d)', r'.layer_norm\1'),
    (r'output_upscaling\.0', 'upscale_conv1'),
    (r'output_upscaling\.1', 'upscale_layer_norm'),
    (r'output_upscaling\.3', 'upscale_conv2'),
    (r'(mlps\.\d|head)\.layers\.0', r'\1.proj_in'),
    (r'(mlps\.\d|head)\.layers\.2', r'\1.proj_out'),
    (r'(mlps\.\d|head)\.layers\.1', r'\1.layers.0'),
]
"""From the published names to those of transformers."""


@pytest.mark.slow
def test_published_weights_give_what_the_published_code_gives():
    """The numbers are of the published code (MobileSAM f706ad9) with its own weights.

    The photograph is the astronaut at 1024x1024, the box is around the helmet.
    """
    network = MobileSAM().eval()
    state = {
        key: tensor
        for key, tensor in load_state_dict(mobile_sam_path()).items()
        if not re.match(r'image_encoder\.(norm_)?head|prompt_encoder\.mask_downscaling', key)
    }
    load_into(network, state)
    with torch.inference_mode():
        features = network.encoder(photo_batch('astronaut', 1024))
        masks, fits = network.decode(
            (features,),
            (1024, 1024),
            torch.tensor([[[580.0, 600.0], [1020.0, 1010.0]]]),
            torch.tensor([CORNERS]),
            best_of_several=False,
        )
    for (channel, row, column), value in FEATURES.items():
        assert float(features[0, channel, row, column]) == pytest.approx(value, abs=1e-3)
    assert float(fits[0]) == pytest.approx(FIT, abs=1e-3)
    assert float((masks[0] > 0).float().mean()) == pytest.approx(INSIDE, abs=1e-4)


FEATURES = {
    (0, 10, 20): -0.00563,
    (7, 32, 32): -0.04161,
    (31, 5, 60): 0.19774,
    (100, 50, 5): -0.07639,
    (255, 63, 63): -0.08941,
}
"""By channel, row and column."""
FIT = 0.92917
INSIDE = 0.11736

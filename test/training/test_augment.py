from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip('kornia', reason='kornia is not installed')

import photographs

from seg_perception.models.input_spec import InputSpec
from seg_perception.training.augment import Augmenter
from seg_perception.training.config import AugmentationConfig

IGNORE_ID = 255


def make(seed=0, size_hw=(48, 64), order='rgb', **options):
    spec = InputSpec(
        size_hw, 'fit', 1, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), channel_order=order
    )
    return Augmenter(AugmentationConfig(**options), spec, IGNORE_ID, seed)


def position_labels(height, width):
    """Labels that tell where a pixel came from: its column."""
    return np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width)).copy()


STILL = {'scale': (1.0, 1.0), 'flip': 0.0}


def test_without_variation_it_is_only_normalised():
    image = photographs.astronaut(48, 64)
    labels = position_labels(48, 64)
    x, y = make(**STILL)(image, labels, epoch=0, index=0)
    expected = (image - np.array([100.0, 110.0, 120.0])) / np.array([50.0, 60.0, 70.0])
    assert x.shape == (3, 48, 64)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    np.testing.assert_allclose(x.numpy(), expected.transpose(2, 0, 1), atol=2e-3)
    np.testing.assert_array_equal(y.numpy(), labels)


def test_bgr_networks_get_bgr():
    image = photographs.astronaut(48, 64)
    labels = position_labels(48, 64)
    rgb, _ = make(**STILL)(image, labels, epoch=0, index=0)
    bgr, _ = make(order='bgr', **STILL)(image, labels, epoch=0, index=0)
    np.testing.assert_array_equal(rgb.numpy()[::-1], bgr.numpy())


def test_flip_mirrors_image_and_labels():
    image = photographs.astronaut(48, 64)
    labels = position_labels(48, 64)
    still, _ = make(**STILL)(image, labels, epoch=0, index=0)
    x, y = make(scale=(1.0, 1.0), flip=1.0)(image, labels, epoch=0, index=0)
    np.testing.assert_array_equal(y.numpy(), labels[:, ::-1])
    np.testing.assert_allclose(x.numpy(), still.numpy()[..., ::-1], atol=2e-3)


def test_what_is_outside_is_ignored_and_mean():
    image = photographs.astronaut(48, 64)
    labels = np.ones((48, 64), np.uint8)
    x, y = make(scale=(0.5, 0.5), flip=0.0, brightness=0.3)(image, labels, epoch=0, index=3)
    outside = y == IGNORE_ID
    assert abs(int((~outside).sum()) - 24 * 32) <= 24 + 32
    assert (x[:, outside] == 0).all()
    assert x[:, ~outside].abs().mean() > 0.1


@pytest.mark.parametrize('rotation_deg', [0.0, 20.0])
def test_image_and_labels_move_together(rotation_deg):
    # Every colour channel holds the column, as the labels do.
    columns = position_labels(96, 128)
    image = np.repeat(columns[..., None], 3, 2)
    for index in range(8):
        x, y = make(
            size_hw=(96, 128), crop_hw=(48, 64), scale=(0.6, 2.0), rotation_deg=rotation_deg
        )(image, columns, epoch=1, index=index)
        seen = x.numpy()[0] * 50.0 + 100.0
        inside = y.numpy() != IGNORE_ID
        assert inside.mean() > 0.5
        # Nearest against bilinear: half a source pixel apart, a border row of mean aside.
        difference = np.abs(seen - y.numpy())[inside]
        assert np.percentile(difference, 95) <= 0.51


def test_the_same_sample_is_the_same_and_another_is_not():
    image, labels = photographs.astronaut(48, 64), position_labels(48, 64)
    options = {'rotation_deg': 5.0, 'contrast': 0.2, 'saturation': 0.2, 'hue_deg': 10.0}
    one, _ = make(**options)(image, labels, epoch=2, index=5)
    state = torch.get_rng_state()
    again, _ = make(**options)(image, labels, epoch=2, index=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert torch.isfinite(one).all()
    for other in ({'epoch': 3, 'index': 5}, {'epoch': 2, 'index': 6}):
        assert not torch.equal(one, make(**options)(image, labels, **other)[0])
    assert not torch.equal(one, make(seed=1, **options)(image, labels, epoch=2, index=5)[0])


def test_sixteen_bit_labels_survive():
    labels = np.full((48, 64), 60000, np.uint16)
    _, y = make(**STILL)(photographs.astronaut(48, 64), labels, epoch=0, index=0)
    assert (y == 60000).all()

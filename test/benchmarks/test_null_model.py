"""The null model and the pictures it sees."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from seg_perception.benchmarks.bare import (
    BareModel,
    LoopTimes,
    copy_cost_ms,
    run_loop,
    score_cost_ms,
)
from seg_perception.benchmarks.null_model import (
    INPUT_HW,
    NullNetwork,
    spread_colors,
    write_null_model,
)
from seg_perception.benchmarks.pictures import NUM_REGIONS, pictures, regions
from seg_perception.errors import InferenceError
from seg_perception.imaging import decode, to_rgb
from seg_perception.imaging.preprocess import Preprocessor
from seg_perception.models import DEFAULT_MODEL, load_card, resolve
from seg_perception.models.output_spec import OutputSpec
from seg_perception.pipeline import Segmenter


def test_spread_colors_on_hand_written_values():
    # Halton: the digits of 1, 2, 3 behind the point, in base 2, 3 and 5.
    expected = [[1 / 2, 1 / 3, 1 / 5], [1 / 4, 2 / 3, 2 / 5], [3 / 4, 1 / 9, 3 / 5]]
    np.testing.assert_allclose(spread_colors(3), expected)
    assert spread_colors(0).shape == (0, 3)


def test_every_cell_gets_the_nearest_colour():
    centers = spread_colors(21)
    image = np.random.default_rng(0).uniform(size=(1, 3, 16, 24)).astype(np.float32)
    with torch.inference_mode():
        labels = NullNetwork(centers)(torch.from_numpy(image))[0].argmax(0).numpy()
    assert labels.shape == (2, 3)
    for row, column in np.ndindex(2, 3):
        cell = image[0, :, 8 * row : 8 * row + 4, 8 * column : 8 * column + 4].mean((1, 2))
        assert labels[row, column] == ((centers - cell) ** 2).sum(1).argmin()


def test_the_written_model_sees_regions(tmp_path):
    card = load_card(write_null_model(tmp_path, 21))
    assert card.input.size_hw == INPUT_HW
    [picture] = pictures((320, 180), 'rgb8', scene='regions', num=1)
    with Segmenter(card, num_threads=1, trust_model_code=True) as segmenter:
        [result] = segmenter.segment([picture])
    found = result.class_fractions(0.02)
    assert 6 <= len(found) <= NUM_REGIONS  # neither one class nor noise
    changes = (np.diff(result.labels_YX.astype(int), axis=1) != 0).mean()
    assert changes < 0.05
    bare = BareModel(card, 1)
    batch, geometry = bare.prepare(picture)
    assert bare.logits(batch).shape == (1, 21, 36, 64)
    assert geometry.source_hw == (180, 320)
    bare.close()


def test_checkers_have_the_same_borders_for_any_number_of_classes():
    """To the cell: else more classes would cost more borders."""
    [picture] = pictures((1280, 720), 'rgb8', scene='checkers', num=1)
    shares = []
    for num_classes in (2, 21, 150):
        network = NullNetwork(spread_colors(num_classes))
        preprocess = Preprocessor(INPUT_HW, std_C=(255.0,) * 3)
        [(batch, _, _)] = preprocess([picture])
        labels = network(batch)[0].argmax(0)
        inside, right, below = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1]
        shares.append(((inside != right) | (inside != below)).float().mean().item())
    assert 0.1 < min(shares) <= max(shares) < 1.2 * min(shares)


def test_a_model_without_logits_is_refused():
    card = dataclasses.replace(resolve(DEFAULT_MODEL), output=OutputSpec(kind='labels'))
    with pytest.raises(InferenceError, match='expected a model that gives logits, got labels'):
        BareModel(card, 1)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'yuv422', 'bayer_rggb8', 'jpeg'])
def test_pictures_show_the_same_scene_in_every_encoding(encoding):
    frames = pictures((64, 48), encoding, scene='regions', num=2)
    images = [to_rgb(decode(f) if encoding == 'jpeg' else f) for f in frames]
    assert [image.shape for image in images] == [(48, 64, 3)] * 2
    assert not np.array_equal(*images)
    [raw, _] = pictures((64, 48), 'rgb8', scene='regions', num=2)
    blurred = [cv2.blur(image, (9, 9)).astype(int) for image in (to_rgb(raw), images[0])]
    assert np.abs(blurred[0] - blurred[1]).mean() < 8


def test_photographs_need_no_more_than_scikit_image():
    pytest.importorskip('skimage', reason="scikit-image (extra 'bench') is not installed")
    [wide, _] = pictures((160, 90), 'rgb8', scene='photograph', num=2)
    assert to_rgb(wide).std() > 30


def test_pictures_are_the_same_in_every_process():
    assert regions(40, 30).tobytes() == regions(40, 30).tobytes()


def test_loops_count_calls_and_costs_are_positive():
    calls = []
    times = run_loop(calls.append, 0.02)
    assert calls[0] == 0
    assert calls[1:] == list(range(1, len(times.wall_ms) + 1))
    assert times.seconds >= 0.02
    assert 0.0 < sum(times.wall_ms) <= times.seconds * 1e3
    times.add(LoopTimes([1.0, 2.0], 0.5, 3.0))
    assert len(times.wall_ms) == len(calls) + 1
    assert times.cpu_ms_per_call >= 500.0 / len(times.wall_ms)
    assert copy_cost_ms((10_000_000,)) > copy_cost_ms((1000,)) >= 0.0
    assert score_cost_ms(20, (36, 64)) > 0.0

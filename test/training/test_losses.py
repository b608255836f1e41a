"""Every loss against torch's own function or a slow twin written from its paper."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.losses import (
    LOSSES,
    border_weights,
    build_loss,
    needs_class_weights,
    options_of,
)
from seg_perception.training.region_losses import descending_order
from seg_perception.training.weighting import ClassFrequencies, median_frequency_weights

IGNORE = 255
WEIGHTS = [0.5, 2.0, 1.0, 3.0]

# Every loss in each of its ways of working.
CONFIGS = {
    'cross_entropy': {'cross_entropy': 1.0},
    'cross_entropy smooth': {'cross_entropy': {'label_smoothing': 0.1}},
    'ohem threshold': {'ohem': {'threshold': 0.3, 'min_kept': 3}},
    'ohem top': {'ohem': {'top_k': 0.4}},
    'focal': {'focal': {'gamma': 2.0, 'alpha': WEIGHTS}},
    'focal root': {'focal': {'gamma': 0.5}},
    'dice': {'dice': 1.0},
    'dice all': {'dice': {'classes': 'all', 'squared': True, 'per_image': True, 'smooth': 0.1}},
    'lovasz': {'lovasz_softmax': 1.0},
    'lovasz all': {'lovasz_softmax': {'classes': 'all', 'per_image': True}},
    'boundary': {'boundary_weighted': 1.0},
    'sum': {'cross_entropy': 0.5, 'dice': 2.0, 'lovasz_softmax': {'weight': 1.5}},
}


def batch(seed=0, shape=(2, 4, 5, 6), ignore_share=0.2, absent=()):
    generator = torch.Generator().manual_seed(seed)
    num, classes, height, width = shape
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, classes, (num, height, width), generator=generator)
    for class_id in absent:
        labels[labels == class_id] = (class_id + 1) % classes
    labels[torch.rand(labels.shape, generator=generator) < ignore_share] = IGNORE
    weights = torch.rand(labels.shape, generator=generator, dtype=torch.float64) + 0.5
    return logits, labels, {'weights_BYX': weights}


def build(config, classes=4, **options):
    return build_loss(config, num_classes=classes, ignore_id=IGNORE, **options)


def labelled(logits, labels):
    """(probabilities, label) of each labelled pixel, as plain floats."""
    probabilities = logits.softmax(1).permute(0, 2, 3, 1)[labels != IGNORE]
    return list(zip(probabilities.tolist(), labels[labels != IGNORE].tolist(), strict=True))


# --- what holds for all of them ------------------------------------------------------------------


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_gradients_are_those_of_finite_differences(config):
    logits, labels, extras = batch(shape=(2, 4, 2, 3))
    loss = build(config)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, labels, extras), (logits.requires_grad_(),), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_ignored_pixels_have_no_influence(config):
    logits, labels, extras = batch()
    loss = build(config)
    changed = torch.where(labels[:, None] == IGNORE, torch.randn_like(logits) * 9, logits)
    assert torch.equal(loss(changed, labels, extras), loss(logits, labels, extras))
    loss(logits.requires_grad_(), labels, extras).backward()
    gradients = logits.grad.permute(0, 2, 3, 1)
    assert not gradients[labels == IGNORE].any()
    assert gradients[labels != IGNORE].any()


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_a_batch_without_labels_is_zero_and_can_be_stepped_on(config):
    logits, labels, extras = batch(ignore_share=1.1)
    value = build(config)(logits.requires_grad_(), labels, extras)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(config, dtype):
    logits, labels, extras = batch()
    half = logits.to(dtype)
    loss = build(config)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(half, labels.to(torch.uint8), extras)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), labels, extras), rtol=0, atol=0)


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_extreme_logits_stay_finite(config):
    logits, labels, extras = batch()
    logits = (logits.sign() * 1e4).float().requires_grad_()
    value = build(config)(logits, labels, extras)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('name', sorted(LOSSES))
def test_more_than_255_classes(name):
    logits = torch.randn(1, 300, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 299, 256, 65535], [1, 2, 255, 65535], [298, 7, 7, 7]])[None]
    loss = build_loss(name, num_classes=300, ignore_id=65535)
    good = F.one_hot(labels.where(labels != 65535, 0), 300).permute(0, 3, 1, 2) * 50.0
    extras = {'weights_BYX': torch.ones(1, 3, 4)}
    assert loss(good, labels, extras) < 0.05
    assert loss(logits, labels, extras) > 0.5


@pytest.mark.parametrize('name', sorted(LOSSES))
def test_perfect_prediction_beats_any_other(name):
    _, labels, extras = batch(ignore_share=0)
    perfect = F.one_hot(labels, 4).permute(0, 3, 1, 2).double() * 40
    worse = perfect.clone()
    worse[0, :, 0, 0] = perfect[0, :, 0, 0].roll(1)
    loss = build({name: 1.0})
    assert loss(perfect, labels, extras) < loss(worse, labels, extras)
    assert loss(perfect, labels, extras) == pytest.approx(0, abs=1e-9)


# --- against torch and slow twins ----------------------------------------------------------------


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
@pytest.mark.parametrize('weights', [None, WEIGHTS])
def test_cross_entropy_is_torchs(smoothing, weights):
    logits, labels, _ = batch()
    expected = F.cross_entropy(
        logits,
        labels,
        None if weights is None else torch.tensor(weights, dtype=torch.float64),
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    loss = build({'cross_entropy': {'label_smoothing': smoothing}}, class_weights=weights)
    torch.testing.assert_close(loss(logits, labels), expected)


def slow_ohem(logits, labels, weights, threshold=None, at_least=0):
    pixels = sorted(
        ((-math.log(p[y]), weights[y]) for p, y in labelled(logits, labels)), reverse=True
    )
    kept = [
        pixel
        for rank, pixel in enumerate(pixels)
        if rank < at_least or (threshold is not None and pixel[0] >= -math.log(threshold))
    ]
    total = sum(weight for _, weight in kept)
    return sum(nll * weight for nll, weight in kept) / total if total else 0.0


@pytest.mark.parametrize(
    ('options', 'threshold', 'at_least'),
    [
        ({'threshold': 0.05, 'min_kept': 0}, 0.05, lambda n: 0),
        ({'threshold': 0.6, 'min_kept': 2}, 0.6, lambda n: 2),
        ({'threshold': 1.0e-9, 'min_kept': 7}, 1e-9, lambda n: 7),
        ({'threshold': 1.0e-9, 'min_kept': 0}, 1e-9, lambda n: 0),
        ({'min_kept': 0.5}, 0.7, lambda n: math.ceil(n / 2)),
        ({'top_k': 5}, None, lambda n: 5),
        ({'top_k': 10_000}, None, lambda n: n),
        ({'top_k': 0.25}, None, lambda n: math.ceil(n / 4)),
        ({'top_k': 1}, None, lambda n: 1),
        ({'top_k': 1.0}, None, lambda n: n),
    ],
)
def test_ohem_keeps_what_its_twin_keeps(options, threshold, at_least):
    logits, labels, _ = batch(seed=3)
    count = at_least(int((labels != IGNORE).sum()))
    expected = slow_ohem(logits, labels, WEIGHTS, threshold, count)
    value = build({'ohem': options}, class_weights=WEIGHTS)(logits, labels)
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_ohem_of_everything_is_cross_entropy():
    logits, labels, _ = batch()
    cross_entropy = build('cross_entropy')(logits, labels)
    torch.testing.assert_close(build({'ohem': {'top_k': 1.0}})(logits, labels), cross_entropy)
    torch.testing.assert_close(build({'ohem': {'threshold': 1.0}})(logits, labels), cross_entropy)


@pytest.mark.parametrize('gamma', [0, 0.5, 2.0, 5])
@pytest.mark.parametrize('alpha', [None, WEIGHTS])
def test_focal_equals_its_formula(gamma, alpha):
    logits, labels, _ = batch()
    factors = alpha or [1.0] * 4
    terms = [
        -factors[y] * (1 - p[y]) ** gamma * math.log(p[y]) for p, y in labelled(logits, labels)
    ]
    value = build({'focal': {'gamma': gamma, 'alpha': alpha}})(logits, labels)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)
    if gamma == 0 and alpha is None:
        torch.testing.assert_close(value, build('cross_entropy')(logits, labels))


def slow_regions(logits, labels, class_loss, classes, per_image):
    """Mean over rows of the mean over classes of a loss of (probabilities, is-true) lists."""
    images = [[i] for i in range(len(logits))] if per_image else [range(len(logits))]
    rows = []
    for image in images:
        pixels = labelled(logits[list(image)], labels[list(image)])
        losses = []
        for class_id in range(logits.shape[1]):
            truth = [y == class_id for _, y in pixels]
            if pixels and (classes == 'all' or any(truth)):
                losses.append(class_loss([p[class_id] for p, _ in pixels], truth))
        if losses:
            rows.append(sum(losses) / len(losses))
    return sum(rows) / len(rows)


def slow_dice(smooth, squared):
    def loss(p, g):
        shared = sum(a for a, b in zip(p, g, strict=True) if b)
        mass = sum(a * a if squared else a for a in p) + sum(g)
        return 1 - (2 * shared + smooth) / (mass + smooth)

    return loss


def slow_jaccard(mistakes, truth):
    """1 - IoU when exactly these pixels are wrong (Berman et al., 2018)."""
    missed = sum(m and g for m, g in zip(mistakes, truth, strict=True))
    wrong = sum(m and not g for m, g in zip(mistakes, truth, strict=True))
    union = sum(truth) + wrong
    return 1 - (sum(truth) - missed) / union if union else 0.0


def slow_lovasz(p, g):
    """The extension by its definition: each error times what adding its pixel costs."""
    errors = [abs(a - b) for a, b in zip(p, g, strict=True)]
    mistakes = [False] * len(p)
    total, before = 0.0, 0.0
    for i in sorted(range(len(p)), key=lambda i: -errors[i]):
        mistakes[i] = True
        now = slow_jaccard(mistakes, g)
        total += errors[i] * (now - before)
        before = now
    return total


REGION_CASES = list(itertools.product(['present', 'all'], [False, True]))


@pytest.mark.parametrize(('classes', 'per_image'), REGION_CASES)
@pytest.mark.parametrize('squared', [False, True])
def test_dice_equals_its_twin(classes, per_image, squared):
    logits, labels, _ = batch(absent=[1])
    labels[1, :, :3] = IGNORE
    labels = torch.cat([labels, torch.full_like(labels[:1], IGNORE)])
    logits = torch.cat([logits, logits[:1]])
    options = {'classes': classes, 'per_image': per_image, 'squared': squared, 'smooth': 0.5}
    expected = slow_regions(logits, labels, slow_dice(0.5, squared), classes, per_image)
    value = build({'dice': options})(logits, labels)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(('classes', 'per_image'), REGION_CASES)
def test_lovasz_equals_its_twin(classes, per_image):
    logits, labels, _ = batch(absent=[1])
    labels = torch.cat([labels, torch.full_like(labels[:1], IGNORE)])
    logits = torch.cat([logits, logits[:1]])
    expected = slow_regions(logits, labels, slow_lovasz, classes, per_image)
    options = {'classes': classes, 'per_image': per_image}
    value = build({'lovasz_softmax': options})(logits, labels)
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    _, labels, _ = batch(ignore_share=0)
    predicted = labels.roll(1, dims=2)
    logits = F.one_hot(predicted, 4).permute(0, 3, 1, 2).double() * 100
    iou = [
        ((predicted == c) & (labels == c)).sum() / ((predicted == c) | (labels == c)).sum()
        for c in range(4)
    ]
    expected = 1 - sum(iou) / 4
    assert build('lovasz_softmax')(logits, labels).item() == pytest.approx(expected.item())


def test_lovasz_keeps_its_precision_on_large_images():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 900, 900, generator=generator)
    labels = torch.randint(0, 2, (1, 900, 900), generator=generator)
    exact = build('lovasz_softmax', 2)(logits.double(), labels)
    fast = build('lovasz_softmax', 2)(logits, labels)
    assert fast.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize('shape', [(1, 1), (3, 1000), (2, 0)])
def test_errors_are_ordered_as_torch_orders_them(shape):
    errors = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    # Equal ones, both zeros, the smallest of all, and what is out of range but not negative.
    errors[:, ::7] = 0.25
    errors[:, 3:9] = torch.tensor([0.0, 0.0, 1e-45, 1.0, 3e38, 1e-30])[: errors[:, 3:9].shape[1]]
    expected = errors.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(descending_order(errors), expected)
    assert torch.equal(descending_order(errors.double()), expected)


def test_boundary_weighted_is_the_weighted_energy_per_pixel():
    logits, labels, extras = batch()
    nll = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction='none')
    expected = (nll * extras['weights_BYX']).sum() / (labels != IGNORE).sum()
    torch.testing.assert_close(build('boundary_weighted')(logits, labels, extras), expected)


@pytest.mark.parametrize('extras', [None, {}, {'weights_BYX': torch.ones(2, 5, 5)}])
def test_boundary_weighted_says_what_it_misses(extras):
    logits, labels, _ = batch()
    with pytest.raises(InputError, match='border_weighting'):
        build('boundary_weighted')(logits, labels, extras)


def test_a_sum_is_the_sum_and_shows_its_terms():
    logits, labels, _ = batch()
    loss = build({'cross_entropy': 0.5, 'dice': {'weight': 2, 'smooth': 0}})
    terms = loss.terms(logits, labels)
    assert list(terms) == ['cross_entropy', 'dice']
    torch.testing.assert_close(terms['cross_entropy'], build('cross_entropy')(logits, labels))
    expected = 0.5 * terms['cross_entropy'] + 2 * terms['dice']
    torch.testing.assert_close(loss(logits, labels), expected)


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({}, 'mapping of losses'),
        (['dice'], 'mapping of losses'),
        ({'hinge': 1.0}, 'boundary_weighted, cross_entropy, dice, focal, lovasz_softmax, ohem'),
        ('hinge', "'hinge'"),
        ({'dice': 0}, 'dice weight.*> 0'),
        ({'dice': -1.0}, 'dice weight'),
        ({'dice': True}, 'dice weight'),
        ({'dice': '1e-1'}, r'write 1\.0e-4'),
        ({'dice': {'smoth': 1}}, 'no option smoth; it has classes, per_image, smooth'),
        ({'dice': {'class_weights': 'none'}}, 'no option class_weights'),
        ({'dice': {'smooth': -1}}, '>= 0'),
        ({'dice': {'classes': 'some'}}, 'all, present'),
        ({'lovasz_softmax': {'per_image': 1}}, 'true or false'),
        ({'focal': {'gamma': -1}}, '>= 0'),
        ({'focal': {'alpha': [1, 2]}}, '4 numbers'),
        ({'focal': {'alpha': 0.25}}, '4 numbers'),
        ({'ohem': {'top_k': 5, 'threshold': 0.5}}, 'excludes'),
        ({'ohem': {'top_k': 0}}, 'more than none'),
        ({'ohem': {'top_k': 1.5}}, 'share'),
        ({'ohem': {'min_kept': -5}}, '>= 0'),
        ({'ohem': {'threshold': 0}}, '> 0'),
        ({'cross_entropy': {'label_smoothing': 1}}, '< 1'),
        ({'cross_entropy': {'class_weights': 'median_frequency'}}, 'ClassFrequencies'),
        ({'cross_entropy': {'class_weights': 'median'}}, 'auto, median_frequency, none'),
        ({'cross_entropy': {'class_weights': [1, 2, 3, -4]}}, '>= 0'),
        ({'cross_entropy': {'class_weights': [0, 0, 0, 0]}}, 'above 0'),
        ({'boundary_weighted': {'sigma': 0}}, '> 0'),
        ({'boundary_weighted': {'background_id': 4}}, '<= 3'),
    ],
)
def test_what_cannot_work_is_refused(config, message):
    with pytest.raises(ConfigurationError, match=message):
        build(config)


def test_ignored_id_may_not_be_a_class():
    with pytest.raises(ConfigurationError, match='256 classes'):
        build('dice', 256)


@pytest.mark.parametrize('shapes', [((2, 3, 5, 6), (2, 5, 6)), ((2, 4, 5, 6), (2, 10, 12))])
def test_shapes_that_do_not_belong_together_are_refused(shapes):
    with pytest.raises(InputError, match='resize the logits'):
        build('dice')(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))


def test_class_weights_come_from_where_the_configuration_says():
    logits, labels, _ = batch()
    plain = build('cross_entropy')(logits, labels)
    weighted = build('cross_entropy', class_weights=np.array(WEIGHTS))(logits, labels)
    assert weighted != plain

    def value(option, given=None):
        loss = build({'cross_entropy': {'class_weights': option}}, class_weights=given)
        return loss(logits, labels)

    assert value('none', WEIGHTS) == plain
    assert value('auto') == plain
    assert value('auto', torch.tensor(WEIGHTS)) == weighted
    assert value('median_frequency', WEIGHTS) == weighted
    assert value(WEIGHTS) == weighted
    assert needs_class_weights({'dice': 1, 'ohem': {'class_weights': 'median_frequency'}})
    assert not needs_class_weights({'dice': 1, 'ohem': {'class_weights': 'auto'}})


def test_options_are_those_of_the_constructors():
    assert options_of('focal') == {'weight', 'class_weights', 'gamma', 'alpha'}
    assert options_of('dice') == {'weight', 'smooth', 'squared', 'classes', 'per_image'}


# --- weights made from labels --------------------------------------------------------------------


def test_median_frequency_balancing_by_hand():
    counted = ClassFrequencies(4, IGNORE)
    counted.update(np.array([[0, 0, 0, 1]]))
    counted.update(np.array([[0, 0, 2, IGNORE, IGNORE]], np.uint8))
    # Class 0: 5 of the 7 labelled pixels; 1: 1 of 4; 2: 1 of 3; 3 never. The median is 1/3.
    expected = [7 / 15, 4 / 3, 1, 1]
    np.testing.assert_allclose(counted.median_frequency_weights(), expected, rtol=1e-6)
    assert counted.median_frequency_weights().dtype == np.float32

    parts = [ClassFrequencies(4, IGNORE) for _ in range(2)]
    parts[0].update(np.array([[0, 0, 2, IGNORE]]))
    parts[1].update(np.array([[0, 0, 0, 1]]))
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].pixel_counts_C, counted.pixel_counts_C)
    np.testing.assert_array_equal(parts[0].image_pixels_C, counted.image_pixels_C)


def test_class_frequencies_refuse_what_they_cannot_count():
    with pytest.raises(InputError, match='0 to 3'):
        ClassFrequencies(4, IGNORE).update(np.array([[4]]))
    with pytest.raises(InputError, match='labelled pixels'):
        median_frequency_weights(np.zeros(3, np.int64), np.zeros(3, np.int64))


def slow_border_weights(labels, background, w0, sigma, class_weights):
    """Equation 2 of U-Net with a distance transform of the whole image for each object."""
    distances = []
    for class_id in set(labels.ravel().tolist()) - {IGNORE, background}:
        regions, count = scipy.ndimage.label(labels == class_id, np.ones((3, 3)))
        distances += [
            scipy.ndimage.distance_transform_edt(regions != i) for i in range(1, count + 1)
        ]
    weights = np.zeros(labels.shape)
    for at in np.ndindex(labels.shape):
        if labels[at] == IGNORE:
            continue
        weights[at] = class_weights[labels[at]]
        near = sorted(distance[at] for distance in distances)[:2]
        if len(near) == 2 and background in (None, labels[at]):
            weights[at] += w0 * math.exp(-(sum(near) ** 2) / (2 * sigma**2))
    return weights


@pytest.mark.parametrize('background', [None, 0])
@pytest.mark.parametrize('sigma', [1.0, 5.0])
@pytest.mark.parametrize('seed', range(3))
def test_border_weights_equal_the_formula(background, sigma, seed):
    rng = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(41, 60)), 3)
    labels = np.digitize(noise, [0.0, 0.06, 0.12]).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.03] = IGNORE
    options = {'background_id': background, 'w0': 10.0, 'sigma': sigma}
    weights = border_weights(labels, ignore_id=IGNORE, class_weights_C=tuple(WEIGHTS), **options)
    expected = slow_border_weights(labels, background, 10.0, sigma, WEIGHTS)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-4, rtol=1e-5)
    assert (weights - np.array([*WEIGHTS, 0])[np.minimum(labels, 4)]).max() > 0.01


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [
        (np.full((3, 4), IGNORE, np.uint8), 0),
        (np.zeros((3, 4), np.uint8), 1),
        (np.ones((1, 1), np.int64), 1),
        (np.full((2, 2), 299, np.uint16), 1),
    ],
)
def test_border_weights_of_one_object_or_none(labels, expected):
    weights = border_weights(labels, ignore_id=IGNORE)
    np.testing.assert_array_equal(weights, np.full(labels.shape, expected, np.float32))


def test_the_gap_between_two_cells_weighs_most():
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 4:14] = labels[5:15, 16:26] = 1
    weights = border_weights(labels, ignore_id=IGNORE, background_id=0)
    # In the two pixels of the gap d1 + d2 is 1 + 2.
    assert weights[10, 14] == pytest.approx(1 + 10 * math.exp(-9 / 50), rel=1e-6)
    assert weights.max() == weights[10, 14]
    assert (weights[labels == 1] == 1).all()


def test_a_loss_tells_the_loader_how_to_weight():
    config = {'boundary_weighted': {'w0': 4, 'sigma': 2, 'background_id': 0}, 'dice': 1.0}
    weighting = build(config, class_weights=WEIGHTS).border_weighting
    labels = np.zeros((9, 9), np.uint8)
    labels[2:4, 2:4] = labels[5:7, 2:4] = 2
    expected = border_weights(
        labels,
        ignore_id=IGNORE,
        background_id=0,
        w0=4,
        sigma=2,
        class_weights_C=tuple(WEIGHTS),
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(weighting))(labels), expected)
    assert build('dice').border_weighting is None

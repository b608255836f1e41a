"""Each thing that can be wrong with a dataset is found, counted and named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.training.datasets import dataset_configs
from seg_perception.training.datasets.check import check_datasets


@pytest.fixture
def config(files):
    """Four good images; the mask of image i has class 0 on three quarters and 1 on one."""
    for i in range(4):
        files.image(f'images/{i}.png', files.picture(i))
        files.mask(f'masks/{i}.png', files.quarters(0, 0, 0, 1))
    return {'layout': 'folders', 'root': str(files.root), 'classes': ['floor', 'tray']}


def found(report):
    return {(f.severity, f.kind): f for f in report.findings}


def test_good_dataset(config):
    progress = []
    report = check_datasets({'dataset': config}, on_progress=lambda *p: progress.append(p))
    assert report.findings == []
    assert progress == [('dataset', i, 4) for i in (1, 2, 3, 4)]
    (part,) = report.parts
    assert (part.num_samples, part.sizes, part.ignored_share) == (4, {'32x24': 4}, 0.0)
    floor, tray = part.classes
    assert (floor.pixels, floor.share, floor.images) == (4 * 576, 0.75, 4)
    assert (tray.pixels, tray.share, tray.images) == (4 * 192, 0.25, 4)
    # median of 3/4 and 1/4 is 1/2
    assert (floor.weight, tray.weight) == (pytest.approx(2 / 3), pytest.approx(2.0))
    assert 'dataset: 4 images, 32x24 (4); 0.0% of the pixels ignored' in report.to_text()
    assert report.to_text().endswith('0 error(s), 0 warning(s)')


@pytest.mark.parametrize(
    ('break_it', 'severity', 'kind', 'names'),
    [
        (lambda f: f.image('images/x.png'), 'error', 'image_without_mask', 'images/x.png'),
        (
            lambda f: f.mask('masks/x.png', f.quarters(0, 0, 0, 0)),
            'error',
            'mask_without_image',
            'masks/x.png',
        ),
        (lambda f: f.text('images/1.png', 'x'), 'error', 'unreadable', 'images/1.png: '),
        (lambda f: f.image('masks/1.png'), 'error', 'unreadable', 'masks/1.png: expected one'),
        (
            lambda f: f.mask('masks/1.png', f.quarters(0, 0, 0, 1)[:9]),
            'error',
            'size_mismatch',
            'masks/1.png: expected the size',
        ),
        (
            lambda f: f.mask('masks/1.png', f.quarters(255, 255, 255, 255)),
            'warning',
            'all_ignored',
            'masks/1.png',
        ),
        (
            lambda f: f.image('images/1.png', f.picture(0)),
            'warning',
            'duplicate',
            '1 is 0',
        ),
    ],
    ids=['no mask', 'no image', 'image', 'rgb mask', 'size', 'ignored', 'duplicate'],
)
def test_each_problem_is_found(config, files, break_it, severity, kind, names):
    break_it(files)
    report = check_datasets({'dataset': config})
    finding = found(report)[severity, kind]
    assert len(report.findings) == 1
    assert len(finding.details) == 1
    assert names in finding.details[0]
    assert report.num_errors == (severity == 'error')
    assert names in report.to_text()


def test_unknown_ids_are_counted_by_value(config, files):
    files.mask('masks/1.png', files.quarters(0, 7, 7, 9))
    files.mask('masks/2.png', files.quarters(0, 0, 1, 7))
    finding = found(check_datasets({'dataset': config}))['error', 'unknown_label']
    assert finding.summary.startswith('2 label(s) are not in the table; expected 0-1, 255')
    seven, nine = finding.details
    assert seven.startswith('7: 576 in 2 file(s): ')
    assert seven.index('masks/1.png') < seven.index('masks/2.png')  # the worse file first
    assert nine.startswith('9: 192 in 1 file(s): ')


def test_classes_that_are_absent_or_rare(config, files):
    for i in range(4):
        mask = files.quarters(0, 0, 1, 1)
        mask[0, 0] = 3
        files.mask(f'masks/{i}.png', mask)
    config = {**config, 'classes': ['floor', 'tray', 'cup', 'pin']}
    findings = found(check_datasets({'dataset': config}))
    assert findings['warning', 'absent_class'].details == ('cup',)
    (rare,) = findings['warning', 'imbalance'].details
    assert rare.startswith('pin: 0.130% of the pixels, 4 of 4 images')


def test_images_of_train_in_val_are_an_error(config, files):
    files.image('val/images/v.bmp', files.picture(2))  # another file of the same pixels
    files.mask('val/masks/v.png', files.quarters(0, 0, 0, 1))
    val = {**config, 'root': str(files.root / 'val')}
    report = check_datasets({'train': config, 'val': val})
    finding = found(report)['error', 'leak']
    assert (finding.part, finding.details) == ('val', ('v is 2 of train',))


def test_parts_must_have_the_same_classes(config):
    other = {**config, 'classes': ['tray', 'floor']}
    findings = found(check_datasets({'train': config, 'val': other}))
    assert findings['error', 'different_classes'].details == (
        'train: floor, tray',
        'val: tray, floor',
    )


def test_no_images_is_an_error_and_the_other_part_is_still_checked(config, files):
    for folder in ('images', 'masks'):
        files.path(f'empty/{folder}/x').parent.mkdir(parents=True, exist_ok=True)
    report = check_datasets({'train': {**config, 'root': f'{files.root}/empty'}, 'val': config})
    assert found(report)['error', 'no_samples'].part == 'train'
    assert [part.part for part in report.parts] == ['val']


def test_unpaired_files_that_are_skipped_are_warnings(config, files):
    files.image('images/x.png')
    report = check_datasets({'dataset': {**config, 'unpaired': 'skip'}})
    assert ('warning', 'image_without_mask') in found(report)
    assert report.num_errors == 0


def test_turned_photographs_are_pointed_out(files):
    image_module = pytest.importorskip('PIL.Image', reason='Pillow is not installed')
    exif = image_module.Exif()
    exif[0x0112] = 3
    image_module.fromarray(files.picture()).save(files.path('images/a.jpg'), exif=exif)
    files.mask('masks/a.png', files.quarters(0, 0, 0, 1))
    config = {'layout': 'folders', 'root': str(files.root), 'classes': ['x', 'y']}
    finding = found(check_datasets({'dataset': config}))['warning', 'exif']
    assert 'left as stored' in finding.summary
    assert finding.details[0].endswith('images/a.jpg: orientation 3')


def test_images_not_annotated_yet_are_a_warning(files):
    files.labelme('a', ('tray', 'rectangle', [[0, 0], [15, 11]]))
    files.image('b.png', files.picture(1))
    config = {'layout': 'labelme', 'root': str(files.root), 'classes': ['background', 'tray']}
    report = check_datasets({'dataset': config})
    assert found(report)['warning', 'not_annotated'].details == (str(files.root / 'b.png'),)


def test_report_is_json_and_long_lists_are_cut_in_text(config, files):
    for i in range(8):
        files.image(f'images/x{i}.png')
    report = check_datasets({'dataset': config})
    document = json.loads(json.dumps(report.to_dict()))
    assert document['ok'] is False
    assert len(document['findings'][0]['details']) == 8
    assert document['parts'][0]['classes'][1]['name'] == 'tray'
    assert '… and 3 more (--json lists all)' in report.to_text()


def test_every_number_of_workers_gives_the_same(config, files):
    files.mask('masks/1.png', files.quarters(0, 7, 7, 9))
    one, four = (check_datasets({'d': config}, num_workers=n).to_dict() for n in (1, 4))
    assert one == four


def test_more_images_than_wait_at_once(config, files, monkeypatch):
    monkeypatch.setattr('seg_perception.training.datasets.check._NUM_AT_ONCE', 3)
    report = check_datasets({'dataset': config})
    assert report.parts[0].classes[0].images == 4
    assert np.isclose(sum(row.share for row in report.parts[0].classes), 1.0)


@pytest.mark.parametrize(
    ('document', 'expected'),
    [
        ({'layout': 'voc', 'root': 'x'}, {'dataset': {'layout': 'voc', 'root': 'x'}}),
        (
            {'name': 'run', 'data': {'root': 'x', 'train': {'split': 'a'}, 'val': {'root': 'y'}}},
            {'train': {'root': 'x', 'split': 'a'}, 'val': {'root': 'y'}},
        ),
    ],
)
def test_configurations_of_one_dataset_and_of_a_training(document, expected):
    assert dataset_configs(document) == expected


@pytest.mark.parametrize('document', [{}, {'data': 3}, {'data': {'train': 3}}, {'root': 'x'}])
def test_configurations_without_dataset(document):
    with pytest.raises(ConfigurationError, match='expected a'):
        dataset_configs(document)

"""COCO's JSON of whole jobs, read by pycocotools and by our own training."""

from __future__ import annotations

import json
import sys

import cv2
import mobile_sam_weights
import numpy as np
import pytest
import rectangle_finder
from photographs import astronaut

from seg_perception.batch.facts import result_facts
from seg_perception.batch.inputs import find_inputs
from seg_perception.batch.job import JobOptions, run_job
from seg_perception.errors import ConfigurationError, MissingExtraError
from seg_perception.imaging.picture_files import decode_index_mask
from seg_perception.pipeline import Segmenter
from seg_perception.training.datasets import open_dataset

# pycocotools 2.0.11 on NumPy 2; silent outside of tests.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def coco():
    return pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed')


@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(input_size_hw=(129, 129), num_threads=1) as segmenter:
        yield segmenter


def run(segmenter, folder, *paths, choices=('labels', 'coco'), **options):
    found = find_inputs(map(str, paths), read_stdin=bytes)
    options = JobOptions(folder=folder, choices=choices, **options)
    facts = result_facts(segmenter, class_names=options.class_names)
    return run_job(segmenter, facts, found, options)


def labels_of(path):
    return decode_index_mask(path.read_bytes(), str(path), max_pixels=2**20)


def test_classes_are_annotations_and_nothing_is_lost(segmenter, coco, tmp_path, capsys):
    photographs = tmp_path / 'in'
    for i, name in enumerate(['a.png', 'sub/b.png']):
        (photographs / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(photographs / name), np.roll(astronaut(), 30 * i, 1)[..., ::-1])
    out = tmp_path / 'out'
    summary = run(segmenter, out, photographs)
    dataset = coco.COCO(str(out / 'coco.json'))
    assert [image['file_name'] for image in dataset.loadImgs([1, 2])] == ['a.png', 'sub/b.png']
    assert dataset.dataset['info']['images_root'] == str(photographs)
    assert [c['name'] for c in dataset.loadCats(dataset.getCatIds())] == [
        name for name in segmenter.classes.names if name != 'background'
    ]
    results = dataset.loadRes(str(out / 'coco_results.json'))
    ours = open_dataset(
        {
            'layout': 'coco',
            'root': str(photographs),
            'images': '.',
            'annotations': str(out / 'coco.json'),
        }
    )
    assert ours.classes.names == segmenter.classes.names
    for image_id, name in enumerate(['a', 'sub/b'], start=1):
        labels_YX = labels_of(out / f'in/{name}.labels.png')
        assert np.array_equal(ours[image_id - 1].labels_YX, labels_YX)
        for loaded in (dataset, results):
            drawn_YX = np.zeros_like(labels_YX)
            for annotation in loaded.loadAnns(loaded.getAnnIds(imgIds=image_id)):
                mask_YX = loaded.annToMask(annotation).astype(bool)
                drawn_YX[mask_YX] = annotation['category_id']
                assert annotation['area'] == mask_YX.sum()
                left, top, width, height = annotation['bbox']
                box = cv2.boundingRect(mask_YX.astype(np.uint8))
                assert (left, top, width, height) == box
            assert np.array_equal(drawn_YX, labels_YX)
        [person] = results.loadAnns(results.getAnnIds(imgIds=image_id, catIds=15))
        assert 0.5 < person['score'] < 1.0
    assert summary.num_objects is None


def test_objects_are_annotations_of_their_own(coco, tmp_path, capsys):
    scene = [(0, 20, 20, 100, 90), (1, 120, 40, 180, 120), (1, 200, 130, 260, 210)]
    photo, out = tmp_path / 'scene.png', tmp_path / 'out'
    cv2.imwrite(str(photo), rectangle_finder.draw(240, 320, scene)[..., ::-1])
    path = rectangle_finder.export(tmp_path / 'rectangles-seg.onnx', is_decoded=False)
    choices = ('overlay', 'labels', 'instances', 'coco')
    with Segmenter(path, device='cpu', num_threads=1) as segmenter:
        summary = run(segmenter, out, photo, choices=choices)
        limes = run(segmenter, tmp_path / 'limes', photo, choices=choices, class_names=('lime',))
    assert (summary.num_objects, limes.num_objects) == (3, 2)
    dataset = coco.COCO(str(out / 'coco.json'))
    annotations = dataset.loadAnns(dataset.getAnnIds())
    assert sorted(a['category_id'] for a in annotations) == [0, 1, 1]
    instances_YX = cv2.imread(str(out / 'scene.instances.png'), cv2.IMREAD_UNCHANGED)
    assert instances_YX.dtype == np.uint16
    for number, annotation in enumerate(annotations, start=1):
        mask_YX = dataset.annToMask(annotation).astype(bool)
        assert np.array_equal(mask_YX, instances_YX == number)
        truths = [rectangle_finder.mask_of(r, 240, 320) for r in scene]
        assert max((mask_YX & t).sum() / (mask_YX | t).sum() for t in truths) > 0.85
    only = json.loads((tmp_path / 'limes/coco.json').read_text())
    assert [category['name'] for category in only['categories']] == ['lime']
    assert len(only['annotations']) == 2


def test_pictures_of_a_video_are_images(segmenter, coco, tmp_path, capsys):
    video = cv2.VideoWriter(
        str(tmp_path / 'v.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96)
    )
    for i in range(3):
        video.write(np.ascontiguousarray(np.roll(astronaut(), 9 * i, 1)[..., ::-1]))
    video.release()
    run(segmenter, tmp_path / 'out', tmp_path / 'v.avi')
    dataset = coco.COCO(str(tmp_path / 'out/coco.json'))
    images = dataset.loadImgs(dataset.getImgIds())
    assert [(i['file_name'], i['frame_index']) for i in images] == [('v.avi', i) for i in range(3)]
    labels_YX = labels_of(tmp_path / 'out/v.labels/000002.png')
    [person] = dataset.loadAnns(dataset.getAnnIds(imgIds=3, catIds=15))
    assert np.array_equal(dataset.annToMask(person).astype(bool), labels_YX == 15)


def test_what_is_missing_is_said_before_the_work(segmenter, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / 'a.png'), astronaut())
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(MissingExtraError, match=r'seg_perception\[coco\]'):
        run(segmenter, tmp_path / 'out', tmp_path / 'a.png')
    assert not (tmp_path / 'out').exists()


def test_models_that_want_prompts_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), astronaut())
    path = mobile_sam_weights.mobile_sam_path()
    with (
        Segmenter('mobile_sam', weights_path=path) as segmenter,
        pytest.raises(ConfigurationError, match='segments what prompts point at'),
    ):
        run(segmenter, tmp_path / 'out', tmp_path / 'a.png')

"""A model that finds objects itself, in the real node over real topics."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import rectangle_finder
from rectangle_finder import CLASSES, draw, mask_of
from ros_harness import wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, image_to_frame, make_header

pytestmark = pytest.mark.ros

SIZE_HW = (240, 320)
TOMATO, OTHER_TOMATO = (0, 16, 24, 96, 88), (0, 96, 88, 160, 176)
LIME, SMALL_BERRY = (1, 200, 40, 300, 160), (2, 20, 200, 32, 212)
"""The tomatoes touch at a corner: as connected regions they would be one object."""
OUT = '/camera/segmentation'


def picture(message):
    return view_frame(image_to_frame(message))


def test_objects_are_the_models_own(spawn, ros, tmp_path):
    path = rectangle_finder.export(tmp_path / 'rectangles-seg.onnx', is_decoded=False)
    node = spawn(
        'node',
        {
            'model': str(path),
            'num_threads': 1,
            'object_classes': ['tomato', 'berry'],
            'object_min_area_px': 400,
            'object_tracking': True,
            'overlay_boxes': True,
        },
    )
    node.wait_for_log('loaded in', 60.0)
    topics = {
        'labels': Image,
        'confidence': Image,
        'instances': Image,
        'overlay': Image,
        'objects': Detection2DArray,
    }
    outputs = {
        name: ros.collect(f'{OUT}/{name}', kind, qos.output()) for name, kind in topics.items()
    }
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    publish = ros.publisher('/camera/image_raw', Image, qos.sensor_input()).publish
    header = make_header(1_700_000_000_000_000_001, 'camera_optical_frame')
    image = draw(*SIZE_HW, [TOMATO, OTHER_TOMATO, LIME, SMALL_BERRY])

    def all_arrived():
        publish(array_to_image(image, 'rgb8', header))
        time.sleep(0.1)
        return all(outputs.values())

    wait_until(all_arrived, 60.0, 'all outputs')
    got = {name: collected[0] for name, collected in outputs.items()}
    assert all(message.header == header for message in got.values())
    assert {c.class_id: c.class_name for c in label_info.wait_for(1)[0].class_map} == dict(
        enumerate(CLASSES)
    )
    labels_YX, instances_YX = picture(got['labels']), picture(got['instances'])
    assert set(np.unique(labels_YX)) == {0, 1, 2, 255}
    for rectangle in (TOMATO, OTHER_TOMATO, LIME):
        truth_YX = mask_of(rectangle, *SIZE_HW)
        assert (labels_YX[truth_YX] == rectangle[0]).mean() > 0.9
    assert cv2.connectedComponents(np.uint8(labels_YX == 0))[0] == 2  # the rest, and one region
    # Limes are not among the wanted classes, the berry is too small.
    assert set(np.unique(instances_YX)) == {0, 1, 2}
    detections = {d.id: d for d in got['objects'].detections}
    assert set(detections) == {'1', '2'}
    for rectangle in (TOMATO, OTHER_TOMATO):
        truth_YX = mask_of(rectangle, *SIZE_HW)
        values, counts = np.unique(instances_YX[truth_YX], return_counts=True)
        object_id = values[counts.argmax()]
        mask_YX = instances_YX == object_id
        assert (mask_YX & truth_YX).sum() / (mask_YX | truth_YX).sum() > 0.85
        detection = detections[str(object_id)]
        [hypothesis] = detection.results
        assert hypothesis.hypothesis.class_id == 'tomato'
        assert hypothesis.hypothesis.score == pytest.approx((235 - 20) / 255, abs=0.01)
        _, left, top, right, bottom = rectangle
        box = detection.bbox
        assert box.center.position.x == pytest.approx((left + right) / 2, abs=4)
        assert box.center.position.y == pytest.approx((top + bottom) / 2, abs=4)
        assert box.size_x == pytest.approx(right - left, abs=8)
        confidence = picture(got['confidence'])[mask_YX]
        assert (confidence == round(hypothesis.hypothesis.score * 255)).all()
    assert (picture(got['overlay']) != image).any()


def test_a_semantic_model_gives_way_to_it(spawn, ros, tmp_path):
    """Swapped while the node runs: from then on objects are the new model's own."""
    path = rectangle_finder.export(tmp_path / 'rectangles-seg.onnx', is_decoded=True)
    params = {'input_size_wh': [0, 0], 'num_threads': 1}
    spawn('node', params).wait_for_log('loaded in', 60.0)
    instances = ros.collect(f'{OUT}/instances', Image, qos.output())
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    publish = ros.publisher('/camera/image_raw', Image, qos.sensor_input()).publish
    image = draw(*SIZE_HW, [TOMATO, OTHER_TOMATO])

    def arrives(condition):
        publish(array_to_image(image, 'rgb8', make_header(time.time_ns(), 'camera_optical_frame')))
        time.sleep(0.1)
        return instances and condition(picture(instances[-1]))

    wait_until(lambda: arrives(lambda _: True), 60.0, 'an image of instances')
    [result] = ros.set_params('segmentation', model=str(path))
    assert result.successful, result.reason

    def is_found(instances_YX):
        ids = [set(np.unique(instances_YX[mask_of(r, *SIZE_HW)])) for r in (TOMATO, OTHER_TOMATO)]
        return ids[0] - {0} and ids[1] - {0} and len(set(np.unique(instances_YX))) == 3

    wait_until(lambda: arrives(is_found), 60.0, 'both tomatoes')
    label_info.wait_until(
        lambda infos: infos and [c.class_name for c in infos[-1].class_map] == list(CLASSES)
    )

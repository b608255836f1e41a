"""Segmenting what prompts point at: the real node, real topics, MobileSAM's own weights."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from mobile_sam_weights import mobile_sam_path
from ros_harness import send_until, wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    make_header,
    stamp_to_ns,
)

pytestmark = [pytest.mark.ros, pytest.mark.slow]

DATA = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'apc_bin' / 'apc2016_obj3'
OUT = '/bin/segmentation'
TIMEOUT_S = 120.0
"""For one image; the model takes a second of two idle cores."""


@pytest.fixture(scope='module')
def scene():
    """The picture of a shelf bin, and the truth: masks of its objects by name."""
    if not DATA.with_suffix('.jpg').is_file():
        pytest.skip(f'no picture at {DATA}.jpg')
    image_rgb = cv2.cvtColor(cv2.imread(f'{DATA}.jpg'), cv2.COLOR_BGR2RGB)
    truth = {}
    for shape in json.loads(DATA.with_suffix('.json').read_text())['shapes']:
        mask_YX = np.zeros(image_rgb.shape[:2], np.uint8)
        cv2.fillPoly(mask_YX, [np.round(np.array(shape['points'])).astype(np.int32)], 1)
        truth[shape['label']] = mask_YX.astype(bool)
    del truth['shelf']
    return image_rgb, truth


def box_around(name, mask_YX, thing=''):
    left, top, width, height = cv2.boundingRect(mask_YX.astype(np.uint8))
    box = BoundingBox2D(size_x=float(width), size_y=float(height))
    box.center.position.x = left + (width - 1) / 2
    box.center.position.y = top + (height - 1) / 2
    hypothesis = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=1.0))
    return Detection2D(bbox=box, results=[hypothesis], id=thing)


def message(*detections, frame_id=''):
    return Detection2DArray(header=Header(frame_id=frame_id), detections=list(detections))


def values_of(diagnostics):
    [status] = [s for s in diagnostics[-1].status if s.name == 'segmentation: bin']
    return status, {value.key: value.value for value in status.values}


def test_objects_of_a_bin_by_boxes_through_the_service(spawn, ros, scene):
    image_rgb, truth = scene
    notes = next(iter(truth))
    node = spawn(
        'node',
        {
            'cameras': ['bin'],
            'model': 'mobile_sam',
            'weights_path': str(mobile_sam_path()),
            'bin.image_topic': '/bin/image_raw',
            'mask_classes': [notes, 'nothing'],
            'grasp_target': notes,
            'diagnostics_period_s': 0.2,
        },
        ttl_s=600.0,
    )
    node.wait_for_log('loaded in', TIMEOUT_S)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    topics = {
        'labels': Image,
        'instances': Image,
        'objects': Detection2DArray,
        f'masks/{notes}': Image,
        'masks/nothing': Image,
        'grasp/mask': Image,
    }
    outputs = {
        name: ros.collect(f'{OUT}/{name}', kind, qos.output()) for name, kind in topics.items()
    }
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    prompt = ros.publisher(f'{OUT}/prompt', Detection2DArray)
    publisher = ros.publisher('/bin/image_raw', Image, qos.sensor_input())

    def publish():
        header = make_header(time.time_ns(), 'bin_optical_frame')
        publisher.publish(array_to_image(image_rgb, 'rgb8', header))

    # nothing is asked for: nothing is there, and the node says why
    send_until(publish, lambda: outputs['objects'], 'objects', TIMEOUT_S, period_s=0.2)
    assert not outputs['objects'][0].detections
    assert not outputs['grasp/mask']
    diagnostics.wait_for(1, TIMEOUT_S)

    def says_why():
        publish()
        time.sleep(0.2)
        return 'no prompts: nothing is segmented' in values_of(diagnostics)[0].message

    wait_until(says_why, TIMEOUT_S, 'the reason')

    # prompts that are no good change nothing and are counted
    nan = box_around('x', truth[notes])
    nan.bbox.center.position.x = float('nan')
    prompt.publish(message(nan))
    node.wait_for_log('expected finite pixels', TIMEOUT_S)
    wait_until(lambda: values_of(diagnostics)[1]['prompts_refused'] == '1', TIMEOUT_S, 'count')

    boxes = [box_around(name, mask_YX) for name, mask_YX in truth.items()]
    outside = box_around('far', truth[notes])
    outside.bbox.center.position.x = 5000.0
    prompt.publish(message(*boxes, outside))
    wait_until(lambda: values_of(diagnostics)[1]['prompts'] == '4', TIMEOUT_S, 'the prompts')
    since_ns = time.time_ns()
    response = segment(ros, publish)
    assert response.success, response.message
    told = re.findall(r'(\d+) (\S+) (\d\.\d\d) (\d+) px', response.message)
    assert [name for _, name, _, _ in told] == list(truth)
    got = {}

    def is_whole():
        by_stamp = {
            name: {stamp_to_ns(m.header.stamp): m for m in list(collected)}
            for name, collected in outputs.items()
        }
        # one that was sent when the prompts were known, on all topics
        stamps_ns = [ns for ns in set.intersection(*map(set, by_stamp.values())) if ns > since_ns]
        if stamps_ns:
            got.update({name: of[stamps_ns[0]] for name, of in by_stamp.items()})
        return got

    send_until(publish, is_whole, 'all outputs of one image', TIMEOUT_S, period_s=0.2)
    assert {m.header.frame_id for m in got.values()} == {'bin_optical_frame'}
    node.wait_for_log('prompt far: expected a box that overlaps the image of 1210x907', TIMEOUT_S)

    instances_YX = view_frame(image_to_frame(got['instances']))
    labels_YX = view_frame(image_to_frame(got['labels']))
    classes = dict(enumerate(['background', *truth]))
    label_info.wait_until(
        lambda infos: {c.class_id: c.class_name for c in infos[-1].class_map} == classes
    )
    for class_id, (name, truth_YX) in enumerate(truth.items(), 1):
        object_id, _, score, area_px = told[class_id - 1]
        mask_YX = instances_YX == int(object_id)
        iou = (mask_YX & truth_YX).sum() / (mask_YX | truth_YX).sum()
        assert iou >= 0.90, name
        assert float(score) > 0.85
        assert mask_YX.sum() == int(area_px)
        assert ((labels_YX == class_id) == mask_YX).all()
    detections = got['objects'].detections
    assert [d.results[0].hypothesis.class_id for d in detections] == list(truth)
    for topic in (f'masks/{notes}', 'grasp/mask'):
        mask_YX = view_frame(image_to_frame(got[topic]))
        assert ((mask_YX == 255) == (labels_YX == 1)).all()
    assert not view_frame(image_to_frame(got['masks/nothing'])).any()

    # an empty message clears them
    prompt.publish(message())
    wait_until(lambda: values_of(diagnostics)[1]['prompts'] == '0', TIMEOUT_S, 'no prompts')

    def is_empty():
        publish()
        time.sleep(0.2)
        return not outputs['objects'][-1].detections

    # frames that were with the model already come first
    wait_until(is_empty, TIMEOUT_S, 'an image without objects')


def segment(ros, show):
    """Calls ``~/segment`` while images come."""
    client = ros.node.create_client(Trigger, '/segmentation/segment')
    wait_until(client.service_is_ready, TIMEOUT_S, 'the service')
    future = client.call_async(Trigger.Request())

    def is_done():
        show()
        time.sleep(0.2)
        return future.done()

    wait_until(is_done, TIMEOUT_S, 'an answer')
    return future.result()

"""Code of the pages that needs topics, run beside real nodes that have them."""

from __future__ import annotations

import json
import sys
import time

import cv2
import documented
import numpy as np
import pytest
import rgbd_model
import rgbd_scene
from ros_harness import TIMEOUT_S
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, intrinsics_to_camera_info, make_header

COLOR = '/camera/color'
DEPTH = '/camera/aligned_depth_to_color'
CAMERA = rgbd_scene.camera((320, 240))


def code(page, beginning):
    """The Python block of a page that begins so."""
    found = documented.blocks(documented.ROOT / 'docs' / page)
    [block] = [b for b in found if b.is_python and b.text.startswith(beginning)]
    assert 'test_documented_code' in block.reason, 'the page says that it is run here'
    return block.text


def test_a_request_as_files_holds_what_the_topics_said(ros, spawn, tmp_path):
    (tmp_path / 'nearest_color').mkdir()
    spawn(
        'node',
        {
            'model': str(rgbd_model.write(tmp_path / 'nearest_color')),
            'num_threads': 1,
            'cameras': ['color'],
            'color.image_topic': f'{COLOR}/image_raw',
            'color.depth_topic': f'{DEPTH}/image_raw',
            'grasp_target': 'ball',
        },
    ).wait_for_log('loaded in', 90.0)
    view = rgbd_scene.render(CAMERA)
    sensor = qos.sensor_input()
    topics = {f'{COLOR}/image_raw': Image, f'{DEPTH}/image_raw': Image}
    topics |= {f'{COLOR}/camera_info': CameraInfo, f'{DEPTH}/camera_info': CameraInfo}
    publishers = {t: ros.publisher(t, m, sensor, num_subscribers=0) for t, m in topics.items()}

    request = spawn.command([sys.executable, '-c', code('grasping.md', 'import json')], name='r')
    deadline = time.monotonic() + 60.0
    while request.is_running() and time.monotonic() < deadline:
        header = make_header(ros.node.get_clock().now().nanoseconds, 'camera_optical')
        for info in (f'{COLOR}/camera_info', f'{DEPTH}/camera_info'):
            publishers[info].publish(intrinsics_to_camera_info(CAMERA, header))
        depth = array_to_image(view.depth_m_YX.astype(np.float32), '32FC1', header)
        publishers[f'{DEPTH}/image_raw'].publish(depth)
        publishers[f'{COLOR}/image_raw'].publish(array_to_image(view.rgb_YX3, 'rgb8', header))
        time.sleep(0.2)
    assert request.wait() == 0

    saved = np.load(tmp_path / 'request.npz')
    np.testing.assert_array_equal(saved['segmap'], view.labels_YX == rgbd_scene.BALL)
    np.testing.assert_array_equal(saved['rgb'], view.rgb_YX3[..., ::-1])
    np.testing.assert_allclose(saved['depth'], np.nan_to_num(view.depth_m_YX), rtol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / 'depth.npy'), saved['depth'])
    mask = cv2.imread(str(tmp_path / 'segmask.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, 255 * saved['segmap'])
    camera = json.loads((tmp_path / 'camera.intr').read_text())
    expected = intrinsics_to_camera_info(CAMERA, make_header(0, '')).k.reshape(3, 3)
    np.testing.assert_array_equal(saved['K'], expected)
    assert camera['_fx'] == pytest.approx(expected[0, 0])
    assert camera['_width'] == 320


def test_a_prompt_arrives_as_the_page_sends_it(ros, spawn):
    received = ros.collect(f'{COLOR}/segmentation/prompt', Detection2DArray)
    pointer = spawn.command([sys.executable, '-c', code('prompting.md', 'import rclpy')], name='p')
    [message] = received.wait_for(1, 60.0)
    assert pointer.wait(TIMEOUT_S) == 0
    [cup] = message.detections
    assert cup.results[0].hypothesis.class_id == 'cup'
    assert (cup.bbox.center.position.x, cup.bbox.size_y) == (320.0, 90.0)

"""The real node beside a depth camera: what consumers get, read the way each of them reads it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rgbd_model
import rgbd_scene
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import qos_profile_sensor_data
from ros_harness import send_until, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from seg_perception.geometry import POINT_DTYPE
from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    intrinsics_to_camera_info,
    make_header,
)
from seg_perception.structures import Frame

pytestmark = pytest.mark.ros

OUT = '/front/segmentation'
COLOR, DEPTH = '/front/image_raw', '/front/depth/image_raw'
COLOR_INFO, DEPTH_INFO = '/front/camera_info', '/front/depth/camera_info'
CAMERA = rgbd_scene.camera((640, 480), center_offset_px=(20.0, -12.0))
VIEW = rgbd_scene.render(CAMERA)
HEADER = make_header(1_700_000_000_123_456_789, 'front_optical')


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    return rgbd_model.write(tmp_path_factory.mktemp('nearest_color'))


@pytest.fixture
def start(spawn, model):
    """Starts the node with the scene's model and its camera 1 m up, 20 degrees down."""

    def start(**params):
        process = spawn(
            'node',
            {
                'model': str(model),
                'num_threads': 1,
                'cameras': ['front'],
                'front.depth_topic': DEPTH,
                'front.mount_xyz_rpy': [0.0, 0.0, 1.0, 0.0, 20.0, 0.0],
                'object_classes': ['box', 'ball'],
                'diagnostics_period_s': 0.2,
                **params,
            },
        )
        process.wait_for_log('loaded in', 60.0)
        return process

    return start


class Rig:
    """A colour and a depth camera."""

    def __init__(self, ros: Any) -> None:
        sensor = qos.sensor_input()
        types = {COLOR: Image, DEPTH: Image, COLOR_INFO: CameraInfo, DEPTH_INFO: CameraInfo}
        self.publishers = {
            topic: ros.publisher(topic, message_type, sensor)
            for topic, message_type in types.items()
        }

    def send(self, depth: Image | None = None, header: Any = HEADER, calibration=CAMERA) -> None:
        """One colour image and, where given, one depth image."""
        info = intrinsics_to_camera_info(calibration, header)
        self.publishers[COLOR_INFO].publish(info)
        if depth is not None:
            self.publishers[DEPTH_INFO].publish(
                intrinsics_to_camera_info(CAMERA.resized((depth.width, depth.height)), header)
            )
            self.publishers[DEPTH].publish(depth)
        self.publishers[COLOR].publish(array_to_image(VIEW.rgb_YX3, 'rgb8', header))


def depth_message(encoding: str = '32FC1', header: Any = HEADER, view=VIEW) -> Image:
    frame: Frame = view.depth_frame(encoding)
    dtype = np.float32 if encoding == '32FC1' else np.uint16
    pixels = np.frombuffer(frame.data, dtype).reshape(frame.height, frame.width)
    return array_to_image(pixels, encoding, header)


def play(send, *outputs) -> None:
    """Sends until each output has shown it."""
    topics = [output.topic for output in outputs]
    send_until(send, lambda: all(outputs), f'messages on {topics}')


def unpadded(message: Image) -> np.ndarray:
    """A mono8 image as costmap plugins index it: data[v * width + u]."""
    assert message.encoding == 'mono8'
    return np.frombuffer(message.data, np.uint8)[: message.width * message.height].reshape(
        message.height, message.width
    )


def cloud_points(message: PointCloud2) -> np.ndarray:
    assert message.point_step == POINT_DTYPE.itemsize
    return np.frombuffer(message.data, POINT_DTYPE).reshape(message.height, message.width)


@pytest.mark.distro
def test_one_image_feeds_every_consumer(start, ros):
    start(
        mask_classes=['box'],
        point_classes=['ball'],
        drivable_classes=['floor'],
        grasp_target='ball',
        overlay_boxes=True,
    )
    types = {
        'labels': Image,
        'confidence': Image,
        'camera_info': CameraInfo,
        'masks/box': Image,
        'overlay': Image,
        'instances': Image,
        'objects': Detection2DArray,
        'points': PointCloud2,
        'points/ball': PointCloud2,
        'objects_3d': Detection3DArray,
        'markers': MarkerArray,
        'drivable': Image,
        'drivable_grid': OccupancyGrid,
        'grasp/mask': Image,
        'grasp/points': PointCloud2,
        'grasp/depth': Image,
        'grasp/camera_info': CameraInfo,
    }
    outputs = {t: ros.collect(f'{OUT}/{t}', kind, qos.output()) for t, kind in types.items()}
    rig = Rig(ros)
    play(lambda: rig.send(depth_message()), *outputs.values())
    got = {topic: collected.wait_for(1)[0] for topic, collected in outputs.items()}
    for topic, message in got.items():
        headers = [m.header for m in message.markers] if topic == 'markers' else [message.header]
        for header in headers:
            assert header.stamp == HEADER.stamp, topic
            frame_id = 'base_footprint' if topic == 'drivable_grid' else HEADER.frame_id
            assert header.frame_id == frame_id, topic

    # Nav2's semantic layer: labels, confidence and cloud pixel by pixel, latched names.
    labels = unpadded(got['labels'])
    np.testing.assert_array_equal(labels, VIEW.labels_YX)
    assert unpadded(got['confidence']).min() > 0
    latched = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    names = {c.class_id: c.class_name for c in latched.wait_for(1)[0].class_map}
    assert names == dict(enumerate(rgbd_scene.CLASS_NAMES))
    cloud = got['points']
    assert (cloud.height, cloud.width) == labels.shape
    assert not cloud.is_dense
    points = cloud_points(cloud)
    np.testing.assert_array_equal(points['label'], labels)
    is_known = np.isfinite(VIEW.depth_m_YX)
    xyz = np.stack([points[axis] for axis in 'xyz'], axis=-1)
    assert np.abs(xyz[is_known] - VIEW.points_m_YX3[is_known]).max() < 1e-3
    assert np.isnan(xyz[~is_known]).all()
    colors = points['rgb'].view(np.uint32)
    assert set(np.unique(colors)) == {
        red << 16 | green << 8 | blue for red, green, blue in rgbd_scene.COLORS_RGB
    }
    assert list(got['camera_info'].k) == list(CAMERA.k)

    # contact_graspnet and friends: 16-bit ids, the same as in the detections and the cloud.
    instances = view_frame(image_to_frame(got['instances']))
    assert (got['instances'].encoding, instances.dtype) == ('16UC1', np.uint16)
    np.testing.assert_array_equal(points['instance'], instances)
    found = {d.id: d for d in got['objects'].detections}
    assert set(found) == {str(i) for i in np.unique(instances) if i}
    assert len(found) == 3
    for true_id in VIEW.truth:
        [object_id] = np.unique(instances[VIEW.instances_YX == true_id])
        detection = found[str(object_id)]
        rows, columns = np.nonzero(VIEW.instances_YX == true_id)
        center, size_x = detection.bbox.center.position, detection.bbox.size_x
        assert center.x - size_x / 2 == columns.min() - 0.5
        assert center.y + detection.bbox.size_y / 2 == rows.max() + 0.5
        name = detection.results[0].hypothesis.class_id
        assert name == ('ball' if true_id == 3 else 'box')

        # Boxes in space, upright in the world although the camera looks down.
        [solid] = [d for d in got['objects_3d'].detections if d.id == str(object_id)]
        truth = VIEW.truth[true_id]
        center_m = solid.bbox.center.position
        error_m = np.array([center_m.x, center_m.y, center_m.z]) - truth.center_xyz_m
        size = solid.bbox.size
        if name == 'box':  # of a ball the camera sees less than half
            assert np.linalg.norm(error_m) < 0.02
            assert np.abs(np.array([size.x, size.y, size.z]) - truth.size_xyz_m).max() < 0.02
    texts = [m.text for m in got['markers'].markers if m.text]
    assert sorted(text.split()[0] for text in texts) == ['ball', 'box', 'box']

    mask = unpadded(got['masks/box'])
    np.testing.assert_array_equal(mask, np.where(VIEW.labels_YX == rgbd_scene.BOX, 255, 0))

    # Where may it drive: the mask, and the grid in the robot's frame.
    drivable = unpadded(got['drivable'])
    assert (drivable[VIEW.labels_YX == rgbd_scene.FLOOR] == 255).all()
    assert (drivable[VIEW.labels_YX == rgbd_scene.BOX] == 0).all()
    assert (drivable[VIEW.labels_YX == rgbd_scene.BACKGROUND] == 127).all()
    grid = got['drivable_grid']
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)

    def cell(x_m: float, y_m: float) -> int:
        column = (x_m - grid.info.origin.position.x) / grid.info.resolution
        row = (y_m - grid.info.origin.position.y) / grid.info.resolution
        return int(cells[int(row), int(column)])

    # Scene: x right, y ahead. Robot: x ahead, y left.
    assert cell(2.1 - 0.15, 0.55) == 100  # the near side of the left box
    assert cell(1.6, 0.0) == 0
    assert cell(0.2, 0.0) == -1  # below the camera, out of its sight

    # The grasp bundle: mask, cloud of the object alone, depth without it.
    target = VIEW.labels_YX == rgbd_scene.BALL
    np.testing.assert_array_equal(unpadded(got['grasp/mask']), np.where(target, 255, 0))
    for topic in ('grasp/points', 'points/ball'):
        ball = got[topic]
        assert (ball.height, ball.is_dense, ball.width) == (1, True, int(target.sum()))
        assert set(cloud_points(ball)['label'].ravel()) == {rgbd_scene.BALL}
    rest = np.frombuffer(got['grasp/depth'].data, np.float32).reshape(480, 640)
    assert got['grasp/depth'].encoding == '32FC1'
    assert np.isnan(rest[target]).all()
    np.testing.assert_array_equal(rest[:200, :100], VIEW.depth_m_YX[:200, :100].astype('f4'))
    assert list(got['grasp/camera_info'].k) == list(CAMERA.k)


def depth_status(diagnostics: Any) -> tuple[bytes, str, dict[str, str]] | None:
    for message in reversed(list(diagnostics)):
        for status in message.status:
            if status.name == 'segmentation: front':
                return status.level, status.message, {v.key: v.value for v in status.values}
    return None


BAD_DEPTH = {
    'missing': (lambda: None, 'missing'),
    'late': (lambda: depth_message(header=make_header(5, HEADER.frame_id)), 'unpaired'),
    'another_frame': (
        lambda: depth_message(
            header=make_header(1_700_000_000_123_456_789, 'front_depth_optical')
        ),
        'mismatched',
    ),
    'another_shape': (
        lambda: depth_message(view=rgbd_scene.render(rgbd_scene.camera((320, 320)))),
        'mismatched',
    ),
    'zeros': (
        lambda: array_to_image(np.zeros((480, 640), np.uint16), '16UC1', HEADER),
        'empty',
    ),
    'no_depth': (
        lambda: array_to_image(np.zeros((480, 640, 3), np.uint8), 'rgb8', HEADER),
        'malformed',
    ),
}


def test_colour_goes_on_whatever_depth_does(start, ros):
    """Nothing is published of pairs that do not match, and diagnostics say why."""
    start()
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    color_only = ros.publisher(COLOR, Image, qos.sensor_input())
    play(lambda: color_only.publish(array_to_image(VIEW.rgb_YX3, 'rgb8', HEADER)), labels)
    assert ros.node.count_subscribers(DEPTH) == 0  # nobody wants it yet
    clouds = ros.collect(f'{OUT}/points', PointCloud2, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    rig = Rig(ros)
    for kind, (make, cause) in BAD_DEPTH.items():
        depth = make()

        def is_said(cause=cause) -> bool:
            status = depth_status(diagnostics)
            return (
                status is not None
                and status[0] == DiagnosticStatus.WARN
                and f'depth {cause}' in status[1]
                and int(status[2][f'depth_{cause}']) > 0
            )

        num_labels = len(labels)

        def all_seen(depth=depth, num_labels=num_labels, is_said=is_said) -> bool:
            rig.send(depth)
            time.sleep(0.1)
            return len(labels) > num_labels + 1 and is_said()

        wait_until(all_seen, 30.0, f'labels and a warning with depth {kind}')
        assert not clouds, kind
    play(lambda: rig.send(depth_message('16UC1')), clouds)
    points = cloud_points(clouds.wait_for(1)[0])
    is_known = np.isfinite(VIEW.depth_m_YX)
    assert np.abs(points['z'][is_known] - VIEW.depth_m_YX[is_known]).max() < 1e-3


def test_depth_of_half_the_size_and_a_grasp_on_request(start, ros):
    """~/segment makes one bundle, of an object chosen by its id, while the node is disabled."""
    start(object_tracking=True)
    half = rgbd_scene.render(CAMERA.resized((320, 240)))
    clouds = ros.collect(f'{OUT}/points', PointCloud2, qos.output())
    instances = ros.collect(f'{OUT}/instances', Image, qos.output())
    masks = ros.collect(f'{OUT}/grasp/mask', Image, qos.output())
    rig = Rig(ros)
    play(lambda: rig.send(depth_message('16UC1', view=half)), clouds, instances)
    points = cloud_points(clouds.wait_for(1)[0])
    # The point of the nearest depth pixel lies on what is seen, at most half such a pixel aside.
    is_inside = np.isfinite(points['z']) & np.isfinite(VIEW.depth_m_YX)
    xyz = np.stack([points[axis] for axis in 'xyz'], axis=-1)[is_inside]
    error_m = np.linalg.norm(xyz - VIEW.points_m_YX3[is_inside], axis=-1)
    assert np.median(error_m) < 0.01
    ids = view_frame(image_to_frame(instances.wait_for(1)[0]))
    [box_id] = np.unique(ids[VIEW.instances_YX == 2])
    assert not masks  # no target yet
    [result] = ros.set_params('segmentation', grasp_target='bowl')
    assert not result.successful
    assert "lacks classes that the parameters name (grasp_target: 'bowl')" in result.reason
    [result] = ros.set_params('segmentation', grasp_target=str(box_id))
    assert result.successful
    play(lambda: rig.send(depth_message('16UC1', view=half)), masks)
    np.testing.assert_array_equal(
        unpadded(masks.wait_for(1)[0]), np.where(VIEW.instances_YX == 2, 255, 0)
    )
    depths = ros.collect(f'{OUT}/grasp/depth', Image, qos.output())
    assert ros.call(SetBool, '/segmentation/enable', SetBool.Request(data=False)).success
    is_done = threading.Event()

    def keep_sending() -> None:
        while not is_done.wait(0.1):
            rig.send(depth_message('16UC1', view=half))

    sender = threading.Thread(target=keep_sending)
    sender.start()
    response = ros.call(Trigger, '/segmentation/segment')
    is_done.set()
    sender.join()
    assert response.success, response.message
    stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in depths.wait_for(1)}
    assert stamps == {(HEADER.stamp.sec, HEADER.stamp.nanosec)}


FIELD_TYPES = {
    PointField.FLOAT32: 'f4',
    PointField.UINT32: 'u4',
    PointField.UINT16: 'u2',
    PointField.UINT8: 'u1',
}


def by_fields(message: PointCloud2) -> np.ndarray:
    """A cloud as PCL and PointCloud2Iterator read it: where its fields say."""
    assert not message.is_bigendian
    assert message.row_step == message.width * message.point_step
    assert len(message.data) == message.height * message.row_step
    fields = {f.name: (FIELD_TYPES[f.datatype], f.offset) for f in message.fields}
    layout = {
        'names': list(fields),
        'formats': [kind for kind, _ in fields.values()],
        'offsets': [offset for _, offset in fields.values()],
        'itemsize': message.point_step,
    }
    return np.frombuffer(message.data, np.dtype(layout)).reshape(message.height, message.width)


def as_mono16(message: Image) -> np.ndarray:
    """What cv_bridge makes of an image when asked for mono16; it refuses 16UC1."""
    assert message.encoding in ('mono8', 'mono16')
    if message.encoding == 'mono8':
        return unpadded(message).astype(np.uint16) * 257
    return np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)


def test_planners_read_the_bundle_as_their_sources_do(start, ros):
    start(grasp_target='ball')
    types = {'mask': Image, 'points': PointCloud2, 'depth': Image, 'camera_info': CameraInfo}
    outputs = {
        topic: ros.collect(f'{OUT}/grasp/{topic}', kind, qos_profile_sensor_data)
        for topic, kind in types.items()
    }
    whole = ros.collect(f'{OUT}/points', PointCloud2, qos_profile_sensor_data)
    rig = Rig(ros)
    play(lambda: rig.send(depth_message('16UC1')), *outputs.values(), whole)
    got = {topic: collected[0] for topic, collected in outputs.items()}
    target = VIEW.labels_YX == rgbd_scene.BALL

    # contact_graspnet_ros: one segment. GQ-CNN: the mask at the size of colour and depth.
    segments = as_mono16(got['mask'])
    assert set(np.unique(segments)) == {0, 65535}
    np.testing.assert_array_equal(segments > 0, target)

    # MoveIt: what REP 118 calls invalid on the target, the camera's millimetres elsewhere.
    depth, info = got['depth'], got['camera_info']
    assert (depth.encoding, depth.is_bigendian, depth.step) == ('16UC1', 0, 2 * depth.width)
    assert (info.width, info.height) == (depth.width, depth.height)
    rest_mm = np.frombuffer(depth.data, np.uint16).reshape(depth.height, depth.width)
    sent_mm = np.frombuffer(depth_message('16UC1').data, np.uint16).reshape(rest_mm.shape)
    assert (rest_mm[target] == 0).all()
    is_taken = rest_mm != sent_mm
    rows, columns = np.nonzero(target)
    near = np.zeros_like(target)
    near[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
    assert not is_taken[~near].any()

    # GPD, through PCL's PointXYZRGBA, which takes a field rgb of float32; six fields it would
    # take for points with normals.
    for cloud in (got['points'], whole[0]):
        points = by_fields(cloud)
        assert len(cloud.fields) != 6
        assert [points.dtype[name] for name in ('x', 'y', 'z', 'rgb')] == [np.float32] * 4
        assert cloud.is_dense == np.isfinite(points['z']).all()
    ball = by_fields(got['points'])[0]
    np.testing.assert_array_equal(
        ball['z'], by_fields(whole[0])['z'][target & np.isfinite(VIEW.depth_m_YX)]
    )
    green = 40 << 16 | 170 << 8 | 70
    assert set(ball['rgb'].view(np.uint32)) == {green}


def test_frames_that_only_depth_consumers_wanted_are_counted(start, ros):
    start()
    ros.collect(f'{OUT}/points', PointCloud2, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    rig = Rig(ros)

    def is_counted() -> bool:
        rig.send()
        time.sleep(0.1)
        status = depth_status(diagnostics)
        return status is not None and int(status[2]['dropped_unpaired']) > 2

    wait_until(is_counted, 30.0, 'dropped_unpaired')
    values = depth_status(diagnostics)[2]
    dropped = sum(int(value) for key, value in values.items() if key.startswith('dropped_'))
    assert int(values['received']) == dropped + int(values['pending'])
    assert values['published'] == '0'


def test_a_flat_ground_stands_in_for_depth(start, ros):
    start(**{'drivable_classes': ['floor'], 'front.depth_topic': ''})
    grids = ros.collect(f'{OUT}/drivable_grid', OccupancyGrid, qos.output())
    sensor = qos.sensor_input()
    send_info = ros.publisher(COLOR_INFO, CameraInfo, sensor).publish
    send_image = ros.publisher(COLOR, Image, sensor).publish

    def send() -> None:
        send_info(intrinsics_to_camera_info(CAMERA, HEADER))
        send_image(array_to_image(VIEW.rgb_YX3, 'rgb8', HEADER))

    play(send, grids)
    grid = grids.wait_for(1)[0]
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    floor = cells[50, round(1.6 / grid.info.resolution)]  # straight ahead
    box = cells[round((0.55 + 2.5) / 0.05), round(2.0 / 0.05)]
    assert (floor, box) == (0, 100)

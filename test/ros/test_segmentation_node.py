"""The real node over real topics: what comes out, and that nothing is lost unseen."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fault_model import marked, write_fault_model
from photographs import astronaut
from ros_harness import send_until, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import LabelInfo

from seg_perception import Segmenter
from seg_perception.imaging import encode, view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    make_header,
    stamp_to_ns,
    to_byte_array,
)

pytestmark = pytest.mark.ros

UINT8_MODEL = (
    Path(__file__).resolve().parents[3]
    / 'shared/data/weights/coral/deeplabv3_mnv2_dm05_pascal_quant.tflite'
)

NODE = 'segmentation'
INPUT = '/camera/image_raw'
OUT = '/camera/segmentation'
SMALL = {'input_size_wh': [64, 64], 'num_threads': 1}
"""A network input that takes milliseconds, for what does not depend on what the model sees."""


def picture(message):
    return view_frame(image_to_frame(message))


def account(diagnostics, camera='camera'):
    """The newest account of a camera as numbers."""
    for message in reversed(diagnostics):
        for status in message.status:
            if status.name == f'{NODE}: {camera}':
                return {value.key: float(value.value) for value in status.values}
    return None


def is_balanced(counts):
    dropped = sum(value for key, value in counts.items() if key.startswith('dropped_'))
    return counts['received'] == counts['published'] + dropped + counts['pending']


def device_status(message):
    return next(s for s in message.status if s.name == f'{NODE}: device')


def play(publish, message, *outputs):
    """Publishes an image until each output has shown it."""
    topics = [output.topic for output in outputs]
    send_until(lambda: publish(message), lambda: all(outputs), f'messages on {topics}')


@pytest.fixture
def start(spawn):
    """Starts the node and waits until its model is loaded."""

    def start(params=None, **kwargs):
        process = spawn('node', {**SMALL, 'diagnostics_period_s': 0.2, **(params or {})}, **kwargs)
        process.wait_for_log('loaded in', 60.0)
        return process

    return start


@pytest.mark.distro
def test_outputs_show_what_the_model_sees(start, ros):
    start(
        {
            'mask_classes': ['person', 'dining table', 'background'],
            'label_info_sync': True,
            'cameras': ['camera'],
        }
        | {'mask_classes': ['person', 'background']}
    )
    topics = ('labels', 'confidence', 'overlay', 'masks/person', 'masks/background')
    outputs = {t: ros.collect(f'{OUT}/{t}', Image, qos.output()) for t in topics}
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    label_info_sync = ros.collect(f'{OUT}/label_info_sync', LabelInfo, qos.output())
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    image = astronaut()
    header = make_header(1_700_000_000_000_000_001, 'camera_optical_frame')
    play(publisher.publish, array_to_image(image, 'rgb8', header), *outputs.values())
    messages = {topic: collected.wait_for(1)[0] for topic, collected in outputs.items()}

    [expected] = Segmenter(input_size_hw=(64, 64), num_threads=1).segment([image])
    assert set(expected.class_fractions(0.1)) == {'background', 'person'}
    np.testing.assert_array_equal(picture(messages['labels']), expected.labels_YX)
    np.testing.assert_array_equal(picture(messages['confidence']), expected.confidence_YX)
    for name in ('person', 'background'):
        mask = picture(messages[f'masks/{name}'])
        np.testing.assert_array_equal(mask, expected.mask(name))
    assert messages['overlay'].encoding == 'rgb8'
    assert picture(messages['overlay']).shape == image.shape
    for message in messages.values():
        assert message.header == header
        assert (message.height, message.width) == image.shape[:2]
        assert message.step == message.width * (3 if message.encoding == 'rgb8' else 1)
    table = {c.class_id: c.class_name for c in label_info.wait_for(1)[0].class_map}
    assert table == dict(enumerate(expected.classes.names))
    assert label_info_sync.wait_for(1)[0].header == header


def test_output_size_and_camera_info(start, ros):
    start({'output_size_wh': [64, 24]})
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    infos = ros.collect(f'{OUT}/camera_info', CameraInfo, qos.output())
    publish_info = ros.publisher('/camera/camera_info', CameraInfo, qos.sensor_input()).publish
    publish = ros.publisher(INPUT, Image, qos.sensor_input()).publish
    k = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
    p = [100.0, 0.0, 63.5, 0.0, 0.0, 100.0, 47.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    calibration = CameraInfo(width=128, height=96, k=k, p=p, distortion_model='plumb_bob')

    def publish_both(image):
        publish_info(calibration)
        publish(image)

    play(publish_both, array_to_image(astronaut(), 'rgb8', make_header(5, 'cam')), infos, labels)
    info = infos.wait_for(1)[0]
    label_image = labels.wait_for(1)[0]
    assert (info.width, info.height) == (label_image.width, label_image.height) == (64, 24)
    assert info.header == label_image.header == make_header(5, 'cam')
    assert list(info.k) == [50.0, 0.0, 31.5, 0.0, 25.0, 11.5, 0.0, 0.0, 1.0]


def test_several_cameras_share_one_model(start, ros):
    """Different sizes, encodings and transports, each with its own outputs."""
    start(
        {
            'cameras': ['front', 'rear', 'side'],
            'rear.transport': 'compressed',
            'side.image_topic': '/robot/side/image_color',
        }
    )
    image = astronaut()
    labels = {
        'front': ros.collect('/front/segmentation/labels', Image, qos.output()),
        'rear': ros.collect('/rear/segmentation/labels', Image, qos.output()),
        'side': ros.collect('/robot/side/segmentation/labels', Image, qos.output()),
    }
    front = ros.publisher('/front/image_raw', Image, qos.sensor_input())
    rear = ros.publisher('/rear/image_raw/compressed', CompressedImage, qos.sensor_input())
    side = ros.publisher('/robot/side/image_color', Image, qos.sensor_input())
    front_image = array_to_image(image[..., ::-1], 'bgr8', make_header(1, 'front'))
    side_image = array_to_image(image[:50, :70, 0], 'mono8', make_header(3, 'side'))
    rear_image = CompressedImage(header=make_header(2, 'rear'), format='png')
    rear_image.data = to_byte_array(encode(image_to_frame(front_image), 'png'))
    play(front.publish, front_image, labels['front'])
    play(rear.publish, rear_image, labels['rear'])
    play(side.publish, side_image, labels['side'])
    got = {name: collected.wait_for(1)[0] for name, collected in labels.items()}
    segmenter = Segmenter(input_size_hw=(64, 64), num_threads=1)
    [of_image, of_side] = segmenter.segment([image, np.ascontiguousarray(image[:50, :70, 0])])
    for name, expected in {'front': of_image, 'rear': of_image, 'side': of_side}.items():
        np.testing.assert_array_equal(picture(got[name]), expected.labels_YX)
        assert got[name].header.frame_id == name


def test_overload_drops_the_old_and_counts_every_frame(start, ros):
    """A camera several times faster than the model."""
    start({'input_size_wh': [640, 640], 'image_reliability': 'reliable'})
    # Reliable on both sides, and there before the node listens: the last frame must reach it.
    publisher = ros.publisher(INPUT, Image, 10, num_subscribers=0)
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    wait_until(lambda: publisher.get_subscription_count() == 1, 20.0, 'the node to listen')
    image = array_to_image(astronaut(), 'rgb8', make_header(0, 'cam'))
    num_frames = 0

    def is_overloaded():
        nonlocal num_frames
        num_frames += 1
        image.header = make_header(num_frames, 'cam')
        publisher.publish(image)
        counts = account(diagnostics)
        return counts is not None and counts['dropped_superseded'] > 20

    wait_until(is_overloaded, 60.0, 'superseded frames')
    labels.wait_until(lambda all_: all_ and stamp_to_ns(all_[-1].header.stamp) == num_frames, 60.0)
    num_before = len(diagnostics)
    diagnostics.wait_until(
        # The one after the next was begun after the last label image.
        lambda all_: (
            (counts := account(all_[num_before + 1 :])) is not None and counts['pending'] == 0
        )
    )
    counts = account(diagnostics)
    assert all(is_balanced(account([message])) for message in diagnostics if account([message]))
    assert counts['received'] == counts['published'] + counts['dropped_superseded']
    stamps = [stamp_to_ns(message.header.stamp) for message in labels]
    # A listener with room for one may miss some on a busy machine, but gets none twice.
    assert stamps == sorted(set(stamps))
    assert len(stamps) <= counts['published']
    assert stamps[-1] == num_frames


def malformed_images():
    good = array_to_image(astronaut(), 'rgb8', make_header(1, 'cam'))

    def altered(**changes):
        message = Image(
            header=good.header,
            height=good.height,
            width=good.width,
            encoding=good.encoding,
            step=good.step,
            data=good.data,
        )
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    return {
        'too short': (altered(data=good.data[:-1]), 'malformed'),
        'step too small': (altered(step=good.step - 1), 'malformed'),
        'no rows': (altered(height=0, data=to_byte_array(b'')), 'malformed'),
        'unknown encoding': (altered(encoding='yuv999'), 'unsupported'),
        'a bomb': (altered(height=100_000, width=100_000, step=300_000), 'malformed'),
    }


def test_malformed_images_cost_one_drop_and_one_line_each(start, ros):
    # Reliable, because each image is sent once; silence would be another warning.
    node = start({'image_reliability': 'reliable', 'silence_thresholds_s': [0.0, 0.0]})
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    publisher = ros.publisher(INPUT, Image, 10)
    expected = {'malformed': 0, 'unsupported': 0}
    for message, reason in malformed_images().values():
        expected[reason] += 1
        publisher.publish(message)
        diagnostics.wait_until(
            lambda _, reason=reason: (
                (counts := account(diagnostics)) is not None
                and counts[f'dropped_{reason}'] == expected[reason]
            )
        )
    counts = account(diagnostics)
    assert counts['dropped_malformed'] == 4
    assert counts['dropped_unsupported'] == 1
    stamps_ns = itertools.count(9)  # the same one twice were another warning

    def publish_good(_):
        publisher.publish(array_to_image(astronaut(), 'rgb8', make_header(next(stamps_ns), 'cam')))

    play(publish_good, None, labels)
    assert stamp_to_ns(labels[0].header.stamp) >= 9
    # What a camera lacks is told on its own, some time after the start.
    warnings = [
        line for line in node.log.splitlines() if '[WARN]' in line and f'camera: {INPUT}: ' in line
    ]
    assert len(warnings) == 5, warnings
    for text in (
        'expected 36864 B',
        'step 383 < 128 px * 3 B (rgb8)',
        '128x0 px',
        "encoding 'yuv999'",
        'claims 100000x100000 px',
    ):
        assert sum(text in line for line in warnings) == 1, text
    assert 'Traceback' not in node.log


def test_malformed_compressed_images(start, ros):
    # Reliable, because each image is sent once.
    node = start({'camera.transport': 'compressed', 'image_reliability': 'reliable'})
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    topic = f'{INPUT}/compressed'
    publisher = ros.publisher(topic, CompressedImage, 10)
    frame = image_to_frame(array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')))
    jpeg = encode(frame, 'jpeg')
    cases = [('jpeg', jpeg[: len(jpeg) // 2]), ('jpeg', b'not an image'), ('tiff', jpeg)]
    for num_sent, (format_, data) in enumerate(cases, 1):
        message = CompressedImage(format=format_)
        message.data = to_byte_array(data)
        publisher.publish(message)
        diagnostics.wait_until(
            lambda _, n=num_sent: (
                (counts := account(diagnostics)) is not None
                and counts['dropped_malformed'] + counts['dropped_unsupported'] == n
            )
        )
    message = CompressedImage(format='jpeg', header=make_header(9, 'cam'))
    message.data = to_byte_array(jpeg)
    play(publisher.publish, message, labels)
    label_image = labels.wait_for(1)[0]
    assert (label_image.height, label_image.width) == (96, 128)
    assert is_balanced(account(diagnostics))
    assert 'Traceback' not in node.log


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.distro
def test_a_signal_during_inference_ends_the_process(start, ros, tmp_path, signum):
    """Of a model that never returns, so that whoever waits for it does not end."""
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')
    node = start({'model': str(write_fault_model(tmp_path)), 'input_size_wh': [0, 0]})
    ros.collect(f'{OUT}/labels', Image, qos.output())
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    image = array_to_image(marked('hang'), 'rgb8', make_header(1, 'cam'))

    send_until(
        lambda: publisher.publish(image),
        lambda: (counts := account(diagnostics)) is not None and counts['pending'] >= 1,
        'an image with the model',
    )
    assert node.stop(signum) == 0
    assert 'Traceback' not in node.log


@pytest.mark.distro
def test_idle_while_nobody_listens(start, ros):
    start()
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    diagnostics.wait_until(lambda _: account(diagnostics) is not None)
    assert ros.node.count_subscribers(INPUT) == 0
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    play(publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')), labels)
    for subscription in list(ros.node.subscriptions):
        if subscription.topic_name == f'{OUT}/labels':
            ros.node.destroy_subscription(subscription)
    wait_until(lambda: publisher.get_subscription_count() == 0, 20.0, 'the node to leave')


@pytest.mark.distro
def test_enable_and_segment_services(start, ros):
    start({'lazy': False})
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    assert ros.call(SetBool, f'/{NODE}/enable', SetBool.Request(data=False)).message == 'disabled'
    wait_until(lambda: publisher.get_subscription_count() == 0, 20.0, 'the node to leave')

    def play():
        publisher.publish(array_to_image(astronaut(), 'rgb8', make_header(7, 'cam')))

    timer = ros.node.create_timer(0.05, play)
    response = ros.call(Trigger, f'/{NODE}/segment')
    ros.node.destroy_timer(timer)
    assert response.success, response.message
    assert response.message.startswith('camera: 128x96: ')
    assert len(labels.wait_for(1)) == 1
    time.sleep(0.3)
    assert len(labels) == 1  # one frame, not more: the node is still disabled
    ros.call(SetBool, f'/{NODE}/enable', SetBool.Request(data=True))
    wait_until(lambda: publisher.get_subscription_count() == 1, 20.0, 'the node to return')

    send_until(play, lambda: len(labels) > 1, 'labels of an enabled node')


def test_max_rate_is_live(start, ros):
    def num_taken(counts):
        return counts['published'] + counts['dropped_superseded']

    start()
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    ros.collect(f'{OUT}/labels', Image, qos.output())
    publisher = ros.publisher(INPUT, Image, 10)
    [result] = ros.set_params(NODE, camera__max_rate_hz=1.0)
    assert result.successful
    start_s = time.monotonic()
    stamps_ns = itertools.count(1)
    image = array_to_image(astronaut(), 'rgb8', make_header(0, 'cam'))

    def is_limited():
        image.header = make_header(next(stamps_ns), 'cam')
        publisher.publish(image)
        counts = account(diagnostics)
        return counts is not None and min(num_taken(counts), counts['dropped_rate_limited']) > 1

    wait_until(is_limited, 60.0, 'frames that come in time, and some too soon')
    elapsed_s = time.monotonic() - start_s
    diagnostics.wait_until(
        lambda _: (
            (counts := account(diagnostics)) is not None
            and counts['age_s'] > 0.5
            and counts['pending'] == 0
        )
    )
    counts = account(diagnostics)
    # How many images came, and when, is not known here: test_rate_limit has a clock of its own.
    assert num_taken(counts) <= 1.0 * elapsed_s + 3
    assert is_balanced(counts)


def test_confidence_threshold_is_live(start, ros):
    start()
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    label_info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    assert label_info.wait_for(1)[0].threshold == 0.0
    ros.set_params(NODE, confidence_threshold=1.0)
    assert label_info.wait_for(2)[1].threshold == 1.0
    play(publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')), labels)
    assert (picture(labels[0]) == 255).mean() > 0.9
    [result] = ros.set_params(NODE, confidence_threshold=1.5)
    assert not result.successful


def test_stale_frames_are_dropped(start, ros):
    start({'max_frame_age_s': 0.5})
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    stale = array_to_image(astronaut(), 'rgb8', make_header(1, 'cam'))

    send_until(
        lambda: publisher.publish(stale),
        lambda: (counts := account(diagnostics)) is not None and counts['dropped_stale'] >= 1,
        'a stale frame that is dropped',
    )

    def publish_fresh(_):
        publisher.publish(array_to_image(astronaut(), 'rgb8', make_header(time.time_ns(), 'cam')))

    play(publish_fresh, None, labels)
    assert stamp_to_ns(labels[0].header.stamp) > 1


@pytest.mark.distro
def test_lifecycle_and_parameters(spawn, ros):
    node = spawn(
        'node',
        {
            **SMALL,
            'autostart': False,
            'model': 'no_such_model',
            'modle': 'typo',
            'diagnostics_period_s': 0.2,
        },
    )
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    ros.wait_for_state(NODE, 'unconfigured')
    assert 'unknown parameter modle ignored; did you mean model?' in node.log
    assert not ros.transition(NODE, 'configure')
    assert ros.state(NODE) == 'unconfigured'
    diagnostics.wait_until(
        lambda messages: (
            messages
            and device_status(messages[-1]).level == DiagnosticStatus.ERROR
            and 'no_such_model' in device_status(messages[-1]).message
        )
    )
    assert 'Traceback' not in node.log
    [result] = ros.set_params(NODE, model='deeplabv3_mobilenetv2.voc21')
    assert result.successful
    for _ in range(2):
        assert ros.transition(NODE, 'configure', 60.0)
        assert ros.transition(NODE, 'activate')
        [result] = ros.set_params(NODE, lazy=False)
        assert not result.successful
        assert 'takes effect when the node is configured' in result.reason
        labels = ros.collect(f'{OUT}/labels', Image, qos.output())
        publisher = ros.publisher(INPUT, Image, qos.sensor_input())
        play(publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')), labels)
        assert not ros.transition(NODE, 'configure'), 'an active node cannot be configured'
        assert ros.state(NODE) == 'active'
        assert ros.transition(NODE, 'deactivate')
        assert ros.call(Trigger, f'/{NODE}/segment').message == 'the node is not active'
        assert ros.transition(NODE, 'cleanup')
    assert ros.state(NODE) == 'unconfigured'


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'cameras': ['a', 'a']}, 'parameter cameras: expected unique, non-empty names'),
        ({'output_size_wh': [640, 0]}, 'parameter output_size_wh: expected [width, height]'),
        ({'precision': 'fp8'}, 'parameter precision: expected one of auto, fp32, fp16, bf16'),
        ({'num_threads': -1}, 'num_threads'),
        ({'confidence_threshold': 'high'}, 'confidence_threshold'),
        ({'use_sim_time': 'yes'}, "'use_sim_time' to 'yes' of type 'STRING', expecting type"),
    ],
)
@pytest.mark.distro
def test_bad_parameters_end_in_one_clear_line(spawn, params, text):
    node = spawn('node', params, expect_exit=1)
    assert node.wait(30.0) == 1
    [line] = [line for line in node.log.splitlines() if line.startswith('error: ')]
    assert text in line
    assert 'Traceback' not in node.log


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        (
            {'mask_classes': ['unicorn']},
            "lacks classes that the parameters name (mask_classes: 'unicorn'); it has: background",
        ),
        ({'device': 'cuda:99'}, "device: expected 'cuda:99', but torch"),
        (
            {'camera.camera_info_topic': 'b@d'},
            "parameter camera.camera_info_topic: expected a topic name, got 'b@d'",
        ),
        (
            {'cameras': ['a', 'b'], 'a.image_topic': '/x/left', 'b.image_topic': '/x/right'},
            "cameras 'a' and 'b' would both publish in /x/segmentation",
        ),
    ],
)
def test_what_cannot_be_configured_is_said(spawn, params, text):
    node = spawn('node', {**SMALL, **params})
    assert text in node.wait_for_log('cannot configure', 60.0)
    assert 'Traceback' not in node.log


@pytest.mark.distro
def test_namespaces_and_remaps(start, ros):
    start({'camera.image_topic': 'image'}, namespace='/robot', remap={'image': '/cam/color/image'})
    labels = ros.collect('/cam/color/segmentation/labels', Image, qos.output())
    publisher = ros.publisher('/cam/color/image', Image, qos.sensor_input())
    play(publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')), labels)
    assert ros.state('/robot/segmentation') == 'active'


@pytest.mark.distro
def test_swapped_remaps_are_applied_once(start, ros):
    """The namespace of the outputs is that of the images they show."""
    start(
        {'cameras': ['left', 'right']},
        remap={'/left/image_raw': '/right/image_raw', '/right/image_raw': '/left/image_raw'},
    )
    labels = {
        side: ros.collect(f'/{side}/segmentation/labels', Image, qos.output())
        for side in ('left', 'right')
    }
    for side, collected in labels.items():
        publisher = ros.publisher(f'/{side}/image_raw', Image, qos.sensor_input())
        play(
            publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, side)), collected
        )
        assert collected[0].header.frame_id == side


def test_a_model_without_scores_offers_no_confidence(spawn, ros):
    if not UINT8_MODEL.is_file():
        pytest.skip(f'needs {UINT8_MODEL.name} of shared/data beside the checkout')
    pytest.importorskip('ai_edge_litert', reason="LiteRT (extra 'tflite') is not installed")
    node = spawn('node', {'model': str(UINT8_MODEL), 'num_threads': 1})
    node.wait_for_log('loaded in', 60.0)
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    [result] = ros.set_params(NODE, confidence_threshold=0.5)
    assert not result.successful
    assert 'gives labels without scores' in result.reason
    publisher = ros.publisher(INPUT, Image, qos.sensor_input())
    play(publisher.publish, array_to_image(astronaut(), 'rgb8', make_header(1, 'cam')), labels)
    assert picture(labels[0]).shape == (96, 128)
    assert ros.node.count_publishers(f'{OUT}/confidence') == 0


def test_segment_says_why_there_is_no_frame(start, ros):
    start()
    publisher = ros.node.create_publisher(Image, INPUT, qos.sensor_input())
    bad = malformed_images()['unknown encoding'][0]
    timer = ros.node.create_timer(0.1, lambda: publisher.publish(bad))
    response = ros.call(Trigger, f'/{NODE}/segment')
    ros.node.destroy_timer(timer)
    assert not response.success
    assert "encoding 'yuv999'" in response.message

"""What a node survives: every transition, many lifecycles, and death at any moment.

A few rounds here; ``SEG_PERCEPTION_CYCLES=1000`` and ``SEG_PERCEPTION_KILLS=100`` make it many.
What was measured is printed (``-s``, or ``-rP``).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fault_model import harmless, marked, write_fault_model
from ros_harness import wait_until
from sensor_msgs.msg import Image

from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, make_header

NODE = 'segmentation'
INPUT = '/camera/image_raw'
OUT = '/camera/segmentation'
NUM_CYCLES = int(os.environ.get('SEG_PERCEPTION_CYCLES', '25'))
NUM_KILLS = int(os.environ.get('SEG_PERCEPTION_KILLS', '6'))
LONG_S = 60.0 + 5.0 * NUM_CYCLES + 30.0 * NUM_KILLS


@pytest.fixture
def card(tmp_path):
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')
    return write_fault_model(tmp_path)


@pytest.fixture
def frames(ros):
    """Sends images for as long as the test lasts: every 20 ms one, every tenth takes long."""
    publisher = ros.node.create_publisher(Image, INPUT, qos.sensor_input())
    count = iter(range(10**9))

    def send():
        picture = marked('slow') if next(count) % 10 == 0 else harmless()
        publisher.publish(array_to_image(picture, 'rgb8', make_header(time.time_ns(), 'cam')))

    timer = ros.node.create_timer(0.02, send)
    yield publisher
    ros.node.destroy_timer(timer)


ALLOWED = {
    ('unconfigured', 'configure'): 'inactive',
    ('inactive', 'activate'): 'active',
    ('inactive', 'cleanup'): 'unconfigured',
    ('active', 'deactivate'): 'inactive',
}
WAY_TO = {'unconfigured': [], 'inactive': ['configure'], 'active': ['configure', 'activate']}
WAY_BACK = {'unconfigured': [], 'inactive': ['cleanup'], 'active': ['deactivate', 'cleanup']}


@pytest.mark.distro
def test_every_transition_from_every_state_with_frames_under_way(spawn, ros, card, frames):
    node = spawn('node', {'model': str(card), 'num_threads': 1, 'autostart': False})
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    for state, way in WAY_TO.items():
        for transition in ('configure', 'activate', 'deactivate', 'cleanup'):
            for label in way:
                assert ros.transition(NODE, label, 60.0)
            if state == 'active':
                num_labels = len(labels)
                labels.wait_until(lambda all_, n=num_labels: len(all_) > n)
            expected = ALLOWED.get((state, transition))
            assert ros.transition(NODE, transition) == (expected is not None)
            now = ros.state(NODE)
            assert now == (expected or state), f'{transition} from {state}'
            for label in WAY_BACK[now]:
                assert ros.transition(NODE, label)
    assert 'Traceback' not in node.log
    assert ros.transition(NODE, 'configure')
    assert ros.transition(NODE, 'activate')
    assert ros.transition(NODE, 'active_shutdown'), 'with frames under way'
    assert ros.state(NODE) == 'finalized'
    assert not ros.transition(NODE, 'configure'), 'there is no way back'
    assert node.is_running()


def test_cleanup_frees_the_memory_of_the_model(spawn, ros, tmp_path):
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    heavy = write_fault_model(tmp_path, 'heavy', ballast_mib=150)
    node = spawn('node', {'model': str(heavy), 'num_threads': 1, 'autostart': False})
    process = psutil.Process(node.popen.pid)

    def rss_mib():
        return process.memory_info().rss / 2**20

    assert ros.transition(NODE, 'configure', 60.0)
    assert ros.transition(NODE, 'cleanup')
    for _ in range(3):
        empty = rss_mib()
        assert ros.transition(NODE, 'configure', 60.0)
        loaded = rss_mib()
        assert ros.transition(NODE, 'cleanup')
        print(f'{empty:.0f} MiB without the model, {loaded:.0f} with it, {rss_mib():.0f} after')
        assert loaded > empty + 100
        assert rss_mib() < empty + 15


@pytest.mark.slow
@pytest.mark.timeout(LONG_S)
def test_lifecycles_with_frames_arriving_leave_nothing_behind(spawn, ros, card, frames):
    params = {'model': str(card), 'num_threads': 1, 'autostart': False}
    node = spawn('node', params, ttl_s=LONG_S)
    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    process = psutil.Process(node.popen.pid)
    moments = random.Random(5)

    def cycle(*, waits_for_labels):
        num_labels = len(labels)
        assert ros.transition(NODE, 'configure', 60.0)
        assert ros.transition(NODE, 'activate', 60.0)
        if waits_for_labels:
            labels.wait_until(lambda all_: len(all_) > num_labels, 60.0)
        time.sleep(moments.uniform(0.0, 0.1))
        assert ros.transition(NODE, 'deactivate', 60.0)
        assert ros.transition(NODE, 'cleanup', 60.0)

    def held():
        rss_mib = process.memory_info().rss / 2**20
        return rss_mib, process.num_threads(), process.num_fds()

    def least(samples):
        """Of the last ones: what is freed is not always given back at once."""
        return tuple(map(min, zip(*samples[-8:], strict=True)))

    samples = []
    for _ in range(min(NUM_CYCLES, 20)):
        cycle(waits_for_labels=True)
        samples.append(held())
    before, start_s = least(samples), time.monotonic()
    for i in range(NUM_CYCLES):
        cycle(waits_for_labels=i % 10 == 0)
        samples.append(held())
    after = least(samples)
    print(
        f'{NUM_CYCLES} cycles in {time.monotonic() - start_s:.0f} s, {len(labels)} label images: '
        f'memory {before[0]:.1f} -> {after[0]:.1f} MiB, threads {before[1]} -> {after[1]}, '
        f'files {before[2]} -> {after[2]}'
    )
    assert after[0] < before[0] + 10.0
    assert after[1] <= before[1] + 1
    assert after[2] <= before[2] + 2
    assert 'Traceback' not in node.log
    assert ros.state(NODE) == 'unconfigured'


LISTENER = """
import rclpy
from sensor_msgs.msg import Image
from seg_perception.ros import qos
rclpy.init()
node = rclpy.create_node('listener')
node.create_subscription(
    Image, '/camera/segmentation/labels', lambda _: print('labels', flush=True), qos.output()
)
rclpy.spin(node)
"""
CAMERA = """
import time
import rclpy
from fault_model import harmless
from sensor_msgs.msg import Image
from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, make_header
rclpy.init()
node = rclpy.create_node('driver')
publisher = node.create_publisher(Image, '/camera/image_raw', qos.sensor_input())
while True:
    header = make_header(time.time_ns(), 'cam')
    publisher.publish(array_to_image(harmless((480, 640)), 'rgb8', header))
    time.sleep(0.03)
"""


@pytest.mark.slow
@pytest.mark.timeout(LONG_S)
def test_whoever_is_killed_the_others_go_on(spawn, ros, card, request):
    """kill -9 of the camera, of a listener and of the node, at random moments."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    here = str(request.config.rootpath / 'test')
    path = os.pathsep.join([here, *filter(None, [os.environ.get('PYTHONPATH')])])

    def script(name, text):
        return spawn.command(
            [sys.executable, '-c', text],
            name=name,
            env={'PYTHONPATH': path},
            expect_exit=None,
            ttl_s=LONG_S,
        )

    def start_node():
        params = {
            'model': str(card),
            'num_threads': 1,
            'diagnostics_period_s': 0.2,
            'status_period_s': 0.1,
            'silence_thresholds_s': [0.5, 1.0],
        }
        return spawn('node', params, expect_exit=None, ttl_s=LONG_S)

    labels = ros.collect(f'{OUT}/labels', Image, qos.output())
    beats = ros.collect(f'{OUT}/status', DiagnosticStatus)

    def until_labels(what, timeout_s):
        start_s, num_labels = time.monotonic(), len(labels)
        labels.wait_until(lambda all_: len(all_) > num_labels + 2, timeout_s)
        print(f'{what}: labels after {time.monotonic() - start_s:.2f} s')
        return time.monotonic() - start_s

    start_s = time.monotonic()
    running = {'node': start_node(), 'camera': script('camera', CAMERA)}
    running['listener'] = script('listener', LISTENER)
    until_labels('the first start', 60.0)
    startup_s = time.monotonic() - start_s
    waits_s = {name: [] for name in running}
    for i in range(NUM_KILLS):
        time.sleep(moments.uniform(0.0, 0.5))
        # Each comes to it, whatever chance says.
        victim = sorted(running)[i] if i < 3 else moments.choice(sorted(running))
        running[victim].popen.send_signal(signal.SIGKILL)
        running[victim].popen.wait(10.0)
        if victim == 'node':
            running[victim] = start_node()
        elif victim == 'camera':
            num_beats = len(beats)
            beats.wait_until(
                lambda all_, n=num_beats: any(b.values[0].value == 'silent' for b in all_[n:]),
                30.0,
            )
            running[victim] = script('camera', CAMERA)
        else:
            until_labels('without the listener', 10.0)
            running[victim] = script('listener', LISTENER)
            running[victim].wait_for_log('labels', 30.0)
        # Four times, as a busy machine starts things in its own time.
        waits_s[victim].append(until_labels(f'{victim} killed', 10.0 + 4.0 * startup_s))
        for name, process in running.items():
            assert process.is_running(), f'{name} died with {victim} (seed {seed})'
        assert 'Traceback' not in running['node'].log
        del labels[:-1], beats[:-1]
    for name, times_s in waits_s.items():
        longest_s = max(times_s, default=float('nan'))
        print(f'{name}: killed {len(times_s)} times, labels again after {longest_s:.1f} s at most')
    print(f'the first start took {startup_s:.1f} s')


def test_two_nodes_in_namespaces_of_their_own_and_one_domain_apart(spawn, ros, card):
    """/robot1 with remapped topics, /robot2 as it is, and one that is in another domain."""
    params = {'model': str(card), 'num_threads': 1}
    one = spawn('node', params, namespace='/robot1', remap={'camera/image_raw': 'front/color'})
    two = spawn('node', params, namespace='/robot2')
    other_domain = {'ROS_DOMAIN_ID': str((int(os.environ['ROS_DOMAIN_ID']) + 1) % 231)}
    far = spawn('node', params, namespace='/robot1', env=other_domain)
    for node in (one, two, far):
        node.wait_for_log('loaded in', 60.0)
    topics = {'/robot1': '/robot1/front/color', '/robot2': '/robot2/camera/image_raw'}
    one.wait_for_log(f'camera: {topics["/robot1"]} -> /robot1/front/segmentation/labels')
    labels, publishers = {}, {}
    for robot, topic in topics.items():
        out = topic.rsplit('/', 1)[0] + '/segmentation/labels'
        labels[robot] = ros.collect(out, Image, qos.output())
        publishers[robot] = ros.publisher(topic, Image, qos.sensor_input())
    for robot in topics:
        message = array_to_image(harmless(), 'rgb8', make_header(1, robot))

        def is_there(robot=robot, message=message):
            publishers[robot].publish(message)
            time.sleep(0.05)
            return len(labels[robot]) > 0

        wait_until(is_there, 30.0, f'labels of {robot}')
        assert labels[robot][0].header.frame_id == robot
        assert ros.state(f'{robot}/segmentation') == 'active'
    assert {m.header.frame_id for m in labels['/robot1']} == {'/robot1'}
    assert publishers['/robot1'].get_subscription_count() == 1, 'the far node does not hear it'
    assert ros.transition('/robot1/segmentation', 'deactivate')
    assert ros.state('/robot2/segmentation') == 'active'
    [result] = ros.set_params('/robot2/segmentation', confidence_threshold=0.5)
    assert result.successful
    assert ros.get_params('/robot1/segmentation', 'confidence_threshold') == [0.0]
    num_labels = len(labels['/robot2'])

    def goes_on():
        publishers['/robot2'].publish(array_to_image(harmless(), 'rgb8', make_header(2, 'cam')))
        time.sleep(0.05)
        return len(labels['/robot2']) > num_labels

    wait_until(goes_on, 30.0, 'labels of /robot2 while /robot1 is inactive')

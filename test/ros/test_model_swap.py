"""Another model while the node runs: nothing is lost, mixed up or left behind."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_harness import Spawner, wait_until
from sensor_msgs.msg import Image
from swapping import (
    DEADLINE_S,
    INPUT,
    NODE,
    OUT,
    Stream,
    counts,
    swap,
    wait_for_swap,
    write_models,
)
from vision_msgs.msg import LabelInfo

from seg_perception.errors import ConfigurationError
from seg_perception.imaging import view_frame
from seg_perception.models import DEFAULT_MODEL
from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, image_to_frame, make_header, stamp_to_ns
from seg_perception.ros.model_swap import ModelSwap
from seg_perception.ros.mount import Transforms
from seg_perception.ros.params import Parameters

WHITE = np.full((24, 32, 3), 255, np.uint8)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp('models'))


@pytest.fixture(scope='module')
def node(models, tmp_path_factory):
    """One node for the tests of this module that leave it running."""
    spawner = Spawner(tmp_path_factory.mktemp('node'))
    process = spawner(
        'node',
        {
            'model': str(models['indoor']),
            'num_threads': 1,
            'diagnostics_period_s': 0.2,
            # Every frame sent must reach the node to be counted.
            f'qos_overrides.{INPUT}.subscription.reliability': 'reliable',
            f'qos_overrides.{INPUT}.subscription.depth': 100,
        },
        ttl_s=600.0,
    )
    process.wait_for_log('loaded in', DEADLINE_S)
    yield process
    spawner.stop_all()


@pytest.fixture
def indoor(node, models, ros):
    """The node, running ``indoor``."""
    wait_until(lambda: ros.state(NODE) == 'active', DEADLINE_S, 'an active node')
    swap(ros, model=str(models['indoor']), mask_classes=[''], confidence_threshold=0.0)
    return node


def found_classes(labels, label_infos):
    """What each label image finds, by the class table in force at its stamp."""
    tables = sorted(
        (stamp_to_ns(info.header.stamp), {c.class_id: c.class_name for c in info.class_map})
        for info in label_infos
    )
    found = []
    for message in labels:
        [value] = np.unique(view_frame(image_to_frame(message)))
        stamp_ns = stamp_to_ns(message.header.stamp)
        in_force = [table for since_ns, table in tables if since_ns <= stamp_ns]
        assert in_force, f'no class table holds for the labels of stamp {stamp_ns}'
        found.append(in_force[-1][int(value)])
    return found


def test_swaps_while_frames_flow(indoor, models, ros):
    labels = ros.collect(f'{OUT}/labels', Image, 50)
    latched = qos.latched()
    latched.depth = 50
    label_infos = ros.collect(f'{OUT}/label_info', LabelInfo, latched)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    before = counts(diagnostics.wait_for(1)[0])
    stream = Stream(ros)
    for num_swaps, name in enumerate(['outdoor', 'indoor'] * 3, 1):
        labels.wait_for(len(labels) + 3)
        swap(ros, model=str(models[name]), mask_classes=['*'])
        assert len(label_infos) >= num_swaps
    labels.wait_for(len(labels) + 3)
    stream.stop()

    def is_over(messages):
        now = counts(messages[-1])
        return (
            now['received'] - before['received'] == stream.num_sent
            and now['pending'] == 0
            and now['published'] - before['published'] == len(labels)
        )

    diagnostics.wait_until(is_over, DEADLINE_S)
    for message in diagnostics:
        now = counts(message)
        dropped = sum(value for key, value in now.items() if key.startswith('dropped_'))
        assert now['received'] == now['published'] + dropped + now['pending']
    after = counts(diagnostics[-1])
    assert after['dropped_model_error'] == before['dropped_model_error']
    stamps = [stamp_to_ns(message.header.stamp) for message in labels]
    assert stamps == sorted(set(stamps))
    found = found_classes(labels, label_infos)
    assert set(found) == {'floor', 'road'}
    assert sum(a != b for a, b in itertools.pairwise(found)) == 6
    assert ros.get_params(NODE, 'model') == [str(models['indoor'])]


@pytest.mark.distro
def test_topics_follow_the_classes(indoor, models, ros):
    swap(ros, mask_classes=['floor'])
    wait_until(lambda: ros.node.count_publishers(f'{OUT}/masks/floor') == 1, 20.0, 'a new topic')
    labels = ros.collect(f'{OUT}/labels', Image, 10)
    labels.wait_for_publisher()
    result = ros.set_params_atomically(NODE, model=str(models['labels']))
    assert not result.successful
    assert "labels lacks classes that the parameters name (mask_classes: 'floor')" in result.reason
    assert ros.get_params(NODE, 'model') == [str(models['indoor'])]

    swap(ros, model=str(models['labels']), mask_classes=['car', 'tree'])
    masks = {name: ros.collect(f'{OUT}/masks/{name}', Image, 10) for name in ('car', 'tree')}
    for topic, num_publishers in (('masks/floor', 0), ('confidence', 0), ('masks/car', 1)):
        wait_until(
            lambda t=topic, n=num_publishers: ros.node.count_publishers(f'{OUT}/{t}') == n,
            20.0,
            f'{num_publishers} publishers of {topic}',
        )
    [refused] = ros.set_params(NODE, confidence_threshold=0.5)
    assert 'gives labels without scores' in refused.reason
    stream = Stream(ros)
    for name, value in (('car', 255), ('tree', 0)):
        [found] = np.unique(view_frame(image_to_frame(masks[name].wait_for(1)[0])))
        assert found == value
    stream.stop()
    labels.wait_for(1)  # still the same publisher: a subscriber from before hears it


def test_of_several_changes_the_last_one_wins(indoor, models, ros):
    for name in ('outdoor', 'labels', 'unsure', 'indoor', 'labels', 'outdoor'):
        assert ros.set_params_atomically(NODE, model=str(models[name])).successful
    wait_for_swap(ros)
    assert ros.get_params(NODE, 'model') == [str(models['outdoor'])]
    label_infos = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched())
    label_infos.wait_until(
        lambda infos: infos and 'road' in [c.class_name for c in infos[-1].class_map]
    )
    # Back to what runs: what is on its way, for seconds, is not taken.
    num_logged = len(indoor.log)
    slow = {'model': DEFAULT_MODEL, 'input_size_wh': [1200, 1200]}
    assert ros.set_params_atomically(NODE, **slow).successful
    swap(ros, model=str(models['outdoor']), input_size_wh=[0, 0])
    assert 'took over' not in indoor.log[num_logged:]


def test_nan_is_an_error_and_no_labels(indoor, models, ros):
    swap(ros, model=str(models['unsure']))
    labels = ros.collect(f'{OUT}/labels', Image, 10)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    publisher = ros.publisher(INPUT, Image, 10)
    num_failed = counts(diagnostics.wait_for(1)[0])['dropped_model_error']
    publisher.publish(array_to_image(WHITE, 'rgb8', make_header(1, 'cam')))
    diagnostics.wait_until(
        lambda messages: counts(messages[-1])['dropped_model_error'] == num_failed + 1
    )
    status = next(s for s in diagnostics[-1].status if s.name == f'{NODE}: camera')
    assert status.level == DiagnosticStatus.ERROR
    assert f'the model failed on {int(num_failed) + 1} frames' in status.message
    indoor.wait_for_log('unsure: expected numbers, got NaN')
    assert not labels
    publisher.publish(array_to_image(WHITE // 4, 'rgb8', make_header(2, 'cam')))
    assert stamp_to_ns(labels.wait_for(1)[0].header.stamp) == 2


def wait_for_exchange(swap, exchanges):
    """Returns when a swap is committed, by this thread: `swap` is for one thread only."""
    wait_until(lambda: exchanges or swap._advance(), DEADLINE_S, 'a loaded model')


@pytest.fixture
def late_worker(models, ros):
    """A swap to ``outdoor`` that is committed, and its worker, which has yet to make it."""
    settings = dataclasses.replace(Parameters(), model=str(models['indoor']))
    node = rclpy.create_node('late_worker', context=ros.node.context)  # nobody spins it
    swap = ModelSwap(node, {}, Transforms(node), settings)
    swap.load(settings)
    exchanges = []
    swap.worker = SimpleNamespace(is_alive=lambda: True, exchange=exchanges.append)
    swap.change({'model': str(models['outdoor'])})
    wait_for_exchange(swap, exchanges)
    assert swap.segmenter.card.name == 'indoor'
    yield swap, exchanges
    swap.close()
    node.destroy_node()


def test_a_change_is_judged_by_the_model_that_is_to_run(late_worker):
    swap, exchanges = late_worker
    with pytest.raises(ConfigurationError, match='outdoor lacks classes'):
        swap.change({'mask_classes': ['floor']})
    swap.change({'mask_classes': ['road']})
    assert len(exchanges) == 2
    assert [exchange().card.name for exchange in exchanges] == ['outdoor', 'outdoor']
    assert swap.segmenter.card.name == 'outdoor'
    assert swap.settings.mask_classes == ('road',)


def test_an_exchange_that_comes_after_the_end_changes_nothing(late_worker, models):
    swap, exchanges = late_worker
    settings = dataclasses.replace(Parameters(), model=str(models['indoor']))
    swap.close()
    swap.load(settings)
    exchanges.pop()()
    assert (swap.segmenter.card.name, swap.settings) == ('indoor', settings)
    swap.change({'model': str(models['outdoor'])})  # and the next swap goes to its end
    wait_for_exchange(swap, exchanges)
    exchanges.pop()()
    swap._advance()
    assert not swap._retired
    assert swap.segmenter.card.name == 'outdoor'

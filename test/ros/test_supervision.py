"""The supervisor with a real managed node whose transitions fail now and then."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import rclpy
from lifecycle_msgs.msg import State
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from seg_perception.errors import ModelLostError
from seg_perception.ros.params import Parameters
from seg_perception.ros.supervision import Supervisor

pytestmark = pytest.mark.distro

DEADLINE_S = 30.0


class Moody(LifecycleNode):
    """A node with a supervisor; ``moods`` are the results of its next activations."""

    def __init__(self, context):
        super().__init__('moody', context=context)
        self.moods = []
        self.calls = []
        self.worker = SimpleNamespace(is_alive=lambda: True)
        settings = Parameters(restart_delay_s=0.05, model_timeout_s=0.0)
        self.supervisor = Supervisor(self, lambda: settings, lambda _: None)

    def on_configure(self, _state):
        self.supervisor.unwatch()
        self.calls.append('configure')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _state):
        self.calls.append('activate')
        mood = self.moods.pop(0) if self.moods else TransitionCallbackReturn.SUCCESS
        if mood is TransitionCallbackReturn.SUCCESS:
            self.supervisor.watch(self.worker)
        return mood

    def on_deactivate(self, _state):
        self.supervisor.unwatch()
        lost = self.supervisor.lost is not None
        return TransitionCallbackReturn.ERROR if lost else TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _state):
        self.calls.append('cleanup')
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, _state):
        return TransitionCallbackReturn.SUCCESS

    @property
    def state(self):
        return self._state_machine.current_state[0]


@pytest.fixture
def moody():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Moody(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin_until(condition):
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, (node.calls, node.state)
            executor.spin_once(0.05)

    node.trigger_configure()
    node.trigger_activate()
    node.calls.clear()
    yield node, spin_until
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ('mood', 'way_back'),
    [
        (TransitionCallbackReturn.FAILURE, ['cleanup']),
        (TransitionCallbackReturn.ERROR, []),  # on_error has led to unconfigured
    ],
)
def test_an_activation_that_fails_after_a_loss_is_tried_again(moody, mood, way_back):
    node, spin_until = moody
    node.moods = [mood, mood]
    node.supervisor.on_lost(ModelLostError('gone'))
    spin_until(lambda: node.calls and node.state == State.PRIMARY_STATE_ACTIVE)
    failed = ['configure', 'activate', *way_back]
    assert node.calls == [*failed, *failed, 'configure', 'activate']


def test_a_worker_whose_thread_ended_is_a_loss(moody):
    node, spin_until = moody
    node.supervisor.watch(SimpleNamespace(is_alive=lambda: False))
    node.supervisor.look()  # as the intake does now and then
    spin_until(lambda: node.supervisor.lost is not None)
    assert "the worker's thread ended" in str(node.supervisor.lost)
    spin_until(lambda: node.calls == ['configure', 'activate'])
    assert node.supervisor.lost is None

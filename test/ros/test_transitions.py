"""What rclpy leaves open about lifecycle transitions."""

from __future__ import annotations

import pytest
import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from seg_perception.ros.transitions import answer_impossible_transitions, logged

pytestmark = pytest.mark.distro


class Broken(LifecycleNode):
    """Cannot be configured."""

    @logged
    def on_configure(self, state):
        raise ZeroDivisionError(f'from {state.label}')


@pytest.fixture
def broken():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Broken('broken', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_an_exception_in_a_transition_is_logged_with_its_traceback(broken, capfd):
    assert broken.trigger_configure() == TransitionCallbackReturn.ERROR
    said = capfd.readouterr().err
    assert 'on_configure from unconfigured: Traceback' in said
    assert 'ZeroDivisionError: from unconfigured' in said
    assert broken._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED


def test_an_impossible_transition_is_answered(broken, capfd):
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
    answer_impossible_transitions(broken)
    answer = broken._service_change_state.callback
    assert not answer(request, ChangeState.Response()).success
    said = capfd.readouterr().err
    # From Kilted on rclpy answers by itself.
    ours = 'transition activate is not possible now: the node is unconfigured'
    assert ours in said or 'Unable to start transition 3' in said

"""What rclpy leaves open about lifecycle transitions: errors that are logged, answers that are no.

rclpy takes an exception in a transition's callback for an error without a word, and lets a
transition that is not possible now end the node.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition as TransitionMessage
from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

_NAMES = {
    value: name.removeprefix('TRANSITION_').lower()
    for name in dir(TransitionMessage)
    if name.startswith('TRANSITION_')
    and isinstance(value := getattr(TransitionMessage, name), int)
}
"""Transitions by what stands for them in messages."""

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition) -> Transition:
    """Logs what a transition's callback raises, with its traceback; it is an error then."""

    @functools.wraps(transition)
    def run(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            text = ''.join(traceback.format_exception(error)).rstrip()
            node.get_logger().error(f'{transition.__name__} from {state.label}: {text}')
            return TransitionCallbackReturn.ERROR

    return run


def answer_impossible_transitions(node: LifecycleNode) -> None:
    """Makes change_state say no where rclpy would let the error end the node instead."""
    change_state = node._service_change_state.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError:
            wanted = request.transition.label or _NAMES.get(request.transition.id, 'unknown')
            state = node._state_machine.current_state[1]
            node.get_logger().error(
                f'transition {wanted} is not possible now: the node is {state}'
            )
            response.success = False
            return response

    node._service_change_state.callback = answer

"""The soak's other side: listens to what the node publishes, operates it, checks its sums."""

from __future__ import annotations

import sys
import threading
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool, Trigger

from seg_perception.ros.bench.processes import leave, serve
from seg_perception.ros.bench.sink import BenchSink
from seg_perception.ros.process import prepare_environment
from seg_perception.ros.soak.ledger import FrameTotals

NODE = 'segmentation'
_OBSERVING = ('listen', 'counts', 'take', 'status', 'accounts')
_OPERATING = ('transition', 'state', 'set_parameters', 'set_together', 'enable', 'segment')
_ANSWER_S = 100.0
_DROPPED = 'dropped_'
_MAX_KEPT = 20


class SoakObserver(BenchSink):
    """As the benchmark's sink; also the one who operates the node.

    Args:
        node: owns subscriptions and clients.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._clients: dict[str, Any] = {}
        self._newest_status: dict[str, dict[str, Any]] = {}
        self._num_accounts = 0
        self._contradictions: list[str] = []
        self._frames: dict[str, FrameTotals] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_statuses, 10)

    def status(self, name: str) -> dict[str, Any]:
        """The newest status whose name ends so: ``num`` of it, level, message, values; or {}."""
        with self._lock:
            return dict(self._newest_status.get(f'{NODE}: {name}', {}))

    def accounts(self) -> dict[str, Any]:
        """How many accounts came, those whose sums were wrong, and all frames by camera."""
        with self._lock:
            return {
                'num': self._num_accounts,
                'wrong': list(self._contradictions),
                'frames': {name: totals.total() for name, totals in self._frames.items()},
            }

    def transition(self, label: str) -> bool:
        """Asks for a lifecycle transition; whether it succeeded."""
        wanted = Transition(id=getattr(Transition, f'TRANSITION_{label.upper()}'))
        request = ChangeState.Request(transition=wanted)
        return bool(self._call(ChangeState, f'{NODE}/change_state', request).success)

    def state(self) -> str:
        """The node's lifecycle state."""
        answer = self._call(GetState, f'{NODE}/get_state', GetState.Request())
        return str(answer.current_state.label)

    def set_parameters(self, values: dict[str, Any]) -> list[str]:
        """Sets parameters one by one; why each was refused, empty where it was not."""
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results = self._call(SetParameters, f'{NODE}/set_parameters', request).results
        return ['' if r.successful else r.reason or 'refused' for r in results]

    def set_together(self, values: dict[str, Any]) -> str:
        """Sets parameters all or none; why they were refused, empty where they were not."""
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        name = f'{NODE}/set_parameters_atomically'
        result = self._call(SetParametersAtomically, name, request).result
        return '' if result.successful else result.reason or 'refused'

    def enable(self, is_enabled: bool) -> bool:
        """Calls ``~/enable``."""
        request = SetBool.Request(data=is_enabled)
        return bool(self._call(SetBool, f'{NODE}/enable', request).success)

    def segment(self) -> dict[str, Any]:
        """Calls ``~/segment``."""
        answer = self._call(Trigger, f'{NODE}/segment', Trigger.Request())
        return {'success': bool(answer.success), 'message': answer.message}

    def _call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self._node.create_client(service_type, name)
        if not client.wait_for_service(_ANSWER_S):
            raise TimeoutError(f'{name} is not there')
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(_ANSWER_S):
            raise TimeoutError(f'{name} did not answer within {_ANSWER_S:g} s')
        return future.result()

    def _on_statuses(self, message: DiagnosticArray) -> None:
        with self._lock:
            for status in message.status:
                values = {pair.key: pair.value for pair in status.values}
                before = self._newest_status.get(status.name, {'num': 0})
                self._newest_status[status.name] = {
                    'num': before['num'] + 1,
                    'level': int.from_bytes(status.level, 'little'),
                    'message': status.message,
                    'values': values,
                }
                if 'received' in values:
                    self._num_accounts += 1
                    self._check(status.name, values)
                    camera = status.name.removeprefix(f'{NODE}: ')
                    self._frames.setdefault(camera, FrameTotals()).see(values)

    def _check(self, name: str, values: dict[str, str]) -> None:
        """Notes an account whose frames do not add up."""
        dropped = sum(int(v) for key, v in values.items() if key.startswith(_DROPPED))
        known = int(values['published']) + dropped + int(values['pending'])
        is_wrong = int(values['received']) != known or int(values['pending']) < 0
        if is_wrong and len(self._contradictions) < _MAX_KEPT:
            self._contradictions.append(f'{name}: {values}')


def main() -> NoReturn:
    """Serves the soak until it closes the pipe."""
    prepare_environment()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node('soak_observer')
    observer = SoakObserver(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    serve(
        {name: getattr(observer, name) for name in _OBSERVING + _OPERATING}, sys.stdin, sys.stdout
    )
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.shutdown()
    leave()

"""The segmentation node: camera topics in, label images and class masks out; a managed node.

Topics, services and parameters are described in ``docs/segmentation_node.md``.
"""

from __future__ import annotations

import importlib.util
import time
from contextlib import suppress
from functools import partial
from typing import NoReturn

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from seg_perception.errors import (
    ConfigurationError,
    ModelLostError,
    SegPerceptionError,
    ServerError,
)
from seg_perception.freed_memory import keep_freed_memory
from seg_perception.ros import params_values
from seg_perception.ros.camera import Camera
from seg_perception.ros.clock import ClockWatch, is_sim_time, now_ns
from seg_perception.ros.doctor.at_activation import ActivationCheck
from seg_perception.ros.health import Level, State
from seg_perception.ros.intake import Intake
from seg_perception.ros.jobs import DEACTIVATED, Job
from seg_perception.ros.load import LoadControl, LoadStep
from seg_perception.ros.log import ThrottledLog, explain, first_line
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.model_swap import ModelSwap
from seg_perception.ros.mount import Transforms
from seg_perception.ros.process import STOP_DEADLINE_S, run_node
from seg_perception.ros.reporting import NodeReport, Reporter
from seg_perception.ros.segment_service import offer_segment_service
from seg_perception.ros.supervision import Supervisor
from seg_perception.ros.transitions import answer_impossible_transitions, logged
from seg_perception.ros.worker import SegmentationWorker

LISTEN_PERIOD_S = 0.25
"""How often the node looks whether somebody listens to its outputs."""
DEACTIVATE_TIMEOUT_S = 30.0
"""How long deactivation waits for the frames the model is working on."""


class SegmentationNode(LifecycleNode):
    """Managed node that runs one model for all its cameras.

    configure loads and warms the model and creates the publishers, activate starts listening to
    the cameras, deactivate finishes the frames under way, cleanup frees the model's memory.
    """

    def __init__(self) -> None:
        super().__init__('segmentation')
        # First what destroy_node needs: declaring the parameters may fail.
        self._cameras: dict[str, Camera] = {}
        self._mailboxes: Mailboxes[Job] = Mailboxes(Job.inherit)
        self._worker: SegmentationWorker | None = None
        self._is_enabled = True
        self._failure = ''
        self._is_without_server = False
        self._log = ThrottledLog(self.get_logger())
        self._clock_watch = ClockWatch()
        self._intake = Intake(self.context, self._look_around, LISTEN_PERIOD_S, self._log)
        self._transforms = Transforms(self)
        self._supervisor = Supervisor(self, lambda: self._swap.settings, self._take_worker)
        self._wiring = ActivationCheck(self)
        self._swap = ModelSwap(self, self._cameras, self._transforms, params_values.declare(self))
        self._load = LoadControl()
        answer_impossible_transitions(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_service(SetBool, '~/enable', self._on_enable)
        offer_segment_service(
            self,
            lambda: list(self._cameras.values()) if self._worker is not None else None,
            self._listen_where_wanted,
        )
        self._reporter = Reporter(self, self._report_all)
        self._listeners_changed = self.create_guard_condition(self._listen_where_wanted)
        if self._swap.settings.autostart:
            # On the steady clock: sim time may stand still at 0.
            self._autostart_timer = self.create_timer(
                0.0, self._autostart, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )

    # Lifecycle

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads and warms the model, creates the publishers."""
        try:
            self._configure()
        except Exception as error:
            self._failure = self._report('cannot configure', error)
            self._is_without_server = isinstance(error, ServerError)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts the worker; cameras are listened to as soon as somebody wants their outputs."""
        try:
            self._start()
        except Exception as error:
            self._failure = self._report('cannot activate', error)
            self._stop(DEACTIVATE_TIMEOUT_S)
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leaves the cameras and finishes the frames under way; an error if the model is lost."""
        if not self._stop(DEACTIVATE_TIMEOUT_S):
            self._abandon()
        if self._supervisor.lost is not None:
            self._failure = f'the model is lost: {self._supervisor.lost}'
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model's memory and removes the publishers."""
        self._release()
        return super().on_cleanup(state)

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup."""
        if not self._stop(DEACTIVATE_TIMEOUT_S):
            self._abandon()
        self._release()
        return super().on_shutdown(state)

    @logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error in a transition: back to unconfigured, with nothing left loaded."""
        self._failure = self._failure or f'error in the transition from {state.label}'
        if not self._stop(DEACTIVATE_TIMEOUT_S):
            self._abandon()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Ends the worker before what it uses goes away."""
        self._stop(STOP_DEADLINE_S)
        super().destroy_node()

    def _configure(self) -> None:
        self._supervisor.unwatch()
        self._wiring.stop()
        self._release()
        parameters = params_values.load(self)
        _require_vision_msgs()
        start_s = time.monotonic()
        self._swap.load(parameters)
        if parameters.needs_tf:
            self._transforms.open()
        taken: dict[str, str] = {}
        for name in parameters.cameras:
            camera = Camera(
                self,
                name,
                lambda: self._swap.settings,
                partial(self._swap.make_outputs, name),
                self._mailboxes,
                self._intake,
                self._load,
                self._transforms,
                self._log,
            )
            self._cameras[name] = camera
            camera.is_enabled = self._is_enabled
            if camera.namespace in taken:
                raise ConfigurationError(
                    f"cameras '{taken[camera.namespace]}' and '{name}' would both publish in "
                    f'{camera.namespace}: give their image topics different namespaces'
                )
            taken[camera.namespace] = name
        self._swap.offer_prompts()
        self._reporter.open()
        loaded_s = time.monotonic() - start_s
        self.get_logger().info(f'loaded in {loaded_s:.1f} s: {self._swap.description()}')
        for name, camera in self._cameras.items():
            self.get_logger().info(f'{name}: {camera.image_topic} -> {camera.namespace}/labels')

    def _start(self) -> None:
        """Starts the worker and listens to the cameras where somebody wants their outputs."""
        assert self._swap.segmenter is not None
        self._mailboxes.open()
        self._clock_watch.start()
        self._load.start(can_scale=self._swap.segmenter.can_scale_input)
        worker = SegmentationWorker(
            self._swap.segmenter,
            self._cameras,
            self._mailboxes,
            lambda: self._swap.settings,
            self._now_ns,
            self._load,
            self._log,
            self._supervisor.on_lost,
        )
        self._take_worker(worker)
        worker.start()
        self._supervisor.watch(worker)
        self._intake.start()
        self._publish_label_info()
        self._listen_where_wanted()
        self._wiring.start(self._cameras.values(), self._swap.settings)

    def _take_worker(self, worker: SegmentationWorker) -> None:
        self._worker = self._swap.worker = worker

    def _publish_label_info(self) -> None:
        for camera in self._cameras.values():
            camera.outputs.publish_label_info(self._now_ns())

    def _stop(self, timeout_s: float) -> bool:
        """Leaves the cameras and ends the worker.

        Returns:
            Whether it ended in time; a worker that did not is kept, as it still uses the model.
        """
        self._supervisor.unwatch()
        self._wiring.stop()
        for camera in self._cameras.values():
            camera.listen(False)
            camera.waiting.refuse_all(DEACTIVATED)
        self._intake.stop()
        if self._worker is None:
            return True
        has_ended = self._worker.stop(timeout_s)
        for camera in self._cameras.values():
            camera.waiting.refuse_all(DEACTIVATED)  # whom the last frames could not answer
        if not has_ended:
            self.get_logger().error(f'the model did not finish within {timeout_s:g} s')
            return False
        self._worker = self._swap.worker = None
        return True

    def _abandon(self) -> None:
        """Leaves a worker that did not end to the model that it waits for."""
        assert self._worker is not None
        reason = f'the model did not finish within {DEACTIVATE_TIMEOUT_S:g} s'
        self._worker.succeed(reason)
        with suppress(ModelLostError):
            self._worker.segmenter.abandon(reason)
        self._supervisor.lost = ModelLostError(reason, needs_new_process=True)
        self._worker = self._swap.worker = None

    def _release(self) -> None:
        """Removes publishers and model."""
        self._reporter.close()
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()
        self._swap.close()
        self._transforms.close()

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        elif self._is_without_server and self._swap.settings.restart_delay_s:
            self._supervisor.restart_in(self._swap.settings.restart_delay_s)

    # Parameters

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        threshold = self._swap.settings.confidence_threshold
        try:
            self._swap.change({change.name: change.value for change in changes})
        except SegPerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        except Exception as error:  # rclpy's own: who asked must have an answer
            self._report('cannot change parameters', error)
            return SetParametersResult(successful=False, reason=first_line(error))
        if self._swap.settings.confidence_threshold != threshold and self._worker is not None:
            self._publish_label_info()
        return SetParametersResult(successful=True)

    # Services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._is_enabled = request.data
        for camera in self._cameras.values():
            camera.is_enabled = request.data
        self._listen_where_wanted()
        response.success = True
        response.message = 'enabled' if request.data else 'disabled'
        return response

    # Timers

    def _look_around(self) -> None:
        """Looks at clock, worker and who listens to the outputs; runs in the intake."""
        is_sim = is_sim_time(self.get_clock())
        jump_s = self._clock_watch.look(self._now_ns(), time.monotonic_ns(), is_sim=is_sim)
        if jump_s is not None:
            text = f'jumped by {jump_s:+.1f} s: tracking and pairing start anew'
            self._log.warning('clock', text)
            for camera in self._cameras.values():
                camera.start_time_anew()
        self._supervisor.look()
        self._look_who_listens()

    def _look_who_listens(self) -> None:
        """Asks the executor to subscribe or leave where that is due."""
        for camera in self._cameras.values():
            is_wanted = camera.wants_images(is_lazy=self._swap.settings.lazy)
            if is_wanted != camera.is_listening or not camera.listens_to_depth_as(is_wanted):
                self._listeners_changed.trigger()
                return

    def _listen_where_wanted(self) -> None:
        """Subscribes to cameras whose outputs are listened to, leaves the others."""
        if self._worker is None:
            return
        for camera in self._cameras.values():
            camera.listen(camera.wants_images(is_lazy=self._swap.settings.lazy))

    def _report_all(self) -> NodeReport:
        is_active = self._worker is not None
        failure = self._failure
        if self._worker is not None and not (self._worker.is_alive() and self._intake.is_alive()):
            failure = failure or 'a thread ended: restart the node'
        state = State.ACTIVE if self._is_enabled else State.DISABLED
        segmenter, step = self._swap.segmenter, self._load.step
        about = (
            {**segmenter.description(), **segmenter.condition()} if segmenter is not None else {}
        )
        concerns = [(Level.WARN, self._swap.failure)] if self._swap.failure else []
        if segmenter is not None and segmenter.concern:
            concerns.append((Level.WARN, segmenter.concern))
        if step != LoadStep():
            concerns.append((Level.WARN, f'less is done to keep latency_budget_ms: {step}'))
        return NodeReport(
            parameters=self._swap.settings,
            state=state if is_active else State.INACTIVE,
            failure=failure,
            model={**about, **self._swap.status(), 'load': str(step)},
            clock=self._clock_watch.snapshot(),
            cameras=tuple(self._cameras.values()),
            concerns=concerns,
            wiring=self._wiring.findings,
        )

    def _now_ns(self) -> int:
        return now_ns(self.get_clock())

    def _report(self, what: str, error: Exception) -> str:
        """Logs an error: one line for our own, with its traceback for any other."""
        self.get_logger().error(f'{what}: {explain(error)}')
        return f'{what}: {error}'


def _require_vision_msgs() -> None:
    if importlib.util.find_spec('vision_msgs') is None:
        raise ConfigurationError(
            'the ROS package vision_msgs is not installed: apt install '
            'ros-$ROS_DISTRO-vision-msgs, or scripts/setup where ROS comes from pip'
        )


def main() -> NoReturn:
    """Entry point of ``segmentation_node``."""
    keep_freed_memory()  # where `ros.start` has not, which can do it before the imports
    run_node(SegmentationNode)


if __name__ == '__main__':
    main()

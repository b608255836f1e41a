"""One camera of the node: its subscriptions, its account, its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.errors import (
    ConfigurationError,
    EncodingError,
    GeometryError,
    InputError,
)
from seg_perception.geometry import Intrinsics
from seg_perception.imaging import check_compressed, check_frame
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.messages.cdr import read_compressed_image
from seg_perception.postprocess import ObjectAssociator
from seg_perception.ros.accounting import CameraAccount, DropReason
from seg_perception.ros.clock import now_ns
from seg_perception.ros.depth import DepthInput, ViewedDepth
from seg_perception.ros.frame_result import FrameResult
from seg_perception.ros.health import CameraReport, State
from seg_perception.ros.intake import Intake
from seg_perception.ros.jobs import DEACTIVATED, Job, WaitingList
from seg_perception.ros.load import LoadControl
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.messages import serialized_to_frame
from seg_perception.ros.mount import F64, Transforms, base_from_optical
from seg_perception.ros.outputs import CameraOutputs
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.ros.prompts import PromptBook
from seg_perception.ros.rate_limit import RateLimit
from seg_perception.ros.subscribing import Feed
from seg_perception.ros.timing import STAMP_REMEDIES, FrameTiming, StampFault
from seg_perception.structures import CompressedFrame, Frame, Objects, Segmentation


class Camera:
    """Validates what a camera sends and leaves the newest frame in its mailbox.

    Args:
        node: owns the subscriptions.
        name: the camera's name among the parameters.
        parameters: the node's, as they are now.
        outputs: builds the publishers for a namespace.
        mailboxes: where frames go.
        intake: receives the messages.
        load: says which frames to leave out.
        transforms: TF.
        log: for trouble.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        parameters: Callable[[], Parameters],
        outputs: Callable[[str], CameraOutputs],
        mailboxes: Mailboxes[Job],
        intake: Intake,
        load: LoadControl,
        transforms: Transforms,
        log: ThrottledLog,
    ) -> None:
        self.name = name
        self.account = CameraAccount()
        self.timing = FrameTiming()
        self._node = node
        self._parameters = parameters
        self._max_pixels = parameters().max_pixels
        self._mailboxes = mailboxes
        self._intake = intake
        self._load = load
        self._transforms = transforms
        self._log = log
        group = self._group
        image_topic = self._resolved('image_topic', group.image_topic)
        namespace = image_topic.rsplit('/', 1)[0]
        self._is_compressed = group.transport == 'compressed'
        self.image_topic = f'{image_topic}/compressed' if self._is_compressed else image_topic
        # Subscribing applies remappings once more, so a raw topic goes there as it was given.
        self._given_topic = self.image_topic if self._is_compressed else group.image_topic
        self._given_camera_info_topic = group.camera_info_topic or f'{namespace}/camera_info'
        self.camera_info_topic = self._resolved('camera_info_topic', self._given_camera_info_topic)
        self.namespace = f'{namespace}/segmentation'
        self.depth = self._depth_input(group.depth_topic) if group.depth_topic else None
        self.outputs = outputs(self.namespace)
        self.prompts = PromptBook(name, log)
        self.takes_prompts = False
        self.is_enabled = True
        self._associator: ObjectAssociator | None = None
        self.start_time_anew()
        self._intrinsics: Intrinsics | None = None
        self.waiting = WaitingList()
        self._feed, self._depth_feed = self._make_feed(), self._make_feed()
        self._rate_limit = RateLimit()
        self._listening_since_s = 0.0

    def wants_images(self, *, is_lazy: bool) -> bool:
        """Whether there is a reason to listen to the camera."""
        if self.waiting:
            return True
        return self.is_enabled and (not is_lazy or self.outputs.is_wanted())

    @property
    def is_listening(self) -> bool:
        """Whether the node is subscribed to the camera now."""
        return self._feed.is_open

    def report(self, off_state: State, node_failure: str, *, in_full: bool) -> CameraReport:
        """All that is known of the camera now.

        Args:
            off_state: what the node is, where it does not listen to the camera.
            node_failure: why it can serve none; empty where it can.
            in_full: whether with percentiles and jitter.
        """
        listening_s = time.monotonic() - self._listening_since_s if self.is_listening else None
        return CameraReport(
            topic=self.image_topic,
            account=self.account.snapshot(in_full=in_full),
            arrivals=self.timing.snapshot(in_full=in_full),
            listening_s=listening_s,
            off_state=State.IDLE if off_state is State.ACTIVE else off_state,
            node_failure=node_failure,
            labels_from=self.outputs.labels_from,
            depth=self.depth.snapshot() if self.depth is not None else None,
            prompts=self.prompts.snapshot() if self.takes_prompts else None,
        )

    def start_time_anew(self) -> None:
        """Forgets what came before the clock jumped: nothing is compared across it."""
        self.timing.restart()
        if self.depth is not None:
            self.depth.forget()
        self.forget_objects()

    def forget_objects(self) -> None:
        """Has objects begin anew: what is found next has nothing to do with what was."""
        self._associator = ObjectAssociator() if self._parameters().object_tracking else None

    def listens_to_depth_as(self, is_wanted: bool) -> bool:
        """Whether depth is received exactly if it has to be, while images are or are not wanted.

        It has to be while outputs that are made from it are listened to.
        """
        if self.depth is None:
            return True
        needs_depth = is_wanted and self.outputs.needs_depth(self.outputs.wanted())
        return needs_depth == self._depth_feed.is_open

    def listen(self, is_wanted: bool) -> None:
        """Subscribes to the camera or leaves it; where that fails, says why and tries again."""
        # Depth first: an image that arrives in between would have none.
        if self.depth is not None and not self.listens_to_depth_as(is_wanted):
            self.depth.forget()
            if self._depth_feed.is_open:
                self._depth_feed.close()
            else:
                group = self._group
                beside = f'{group.depth_topic.rsplit("/", 1)[0]}/camera_info'
                info_topic = group.depth_camera_info_topic or beside
                self._depth_feed.open(
                    (Image, group.depth_topic, self.depth.on_image),
                    (CameraInfo, info_topic, self.depth.on_camera_info),
                )
        if is_wanted != self.is_listening:
            self._listening_since_s = time.monotonic()
            self.timing.restart()
            if is_wanted:
                kind = CompressedImage if self._is_compressed else Image
                on_image = self._on_compressed if self._is_compressed else self._on_image
                self._feed.open(
                    (kind, self._given_topic, on_image),
                    (CameraInfo, self._given_camera_info_topic, self._on_camera_info),
                )
            else:
                self._feed.close()

    def intrinsics_of(self, frame: Frame) -> Intrinsics | None:
        """The newest calibration, if it belongs to images of this size."""
        intrinsics = self._intrinsics
        if intrinsics is None or intrinsics.size_wh == (frame.width, frame.height):
            return intrinsics
        self._log.warning(
            self.name,
            f'{self.camera_info_topic} describes images of {intrinsics.size_wh[0]}x'
            f'{intrinsics.size_wh[1]}, {self.image_topic} has {frame.width}x{frame.height}: '
            'no camera_info is published until they agree',
        )
        return None

    def frame_result(
        self, job: Job, frame: Frame, segmentation: Segmentation, parameters: Parameters
    ) -> FrameResult:
        """What the outputs of a frame are made of.

        Args:
            job: the frame's.
            frame: decoded.
            segmentation: what the model says about it.
            parameters: the node's.
        """
        intrinsics = self.intrinsics_of(frame)

        def find_depth(size_hw: tuple[int, int]) -> ViewedDepth | None:
            if self.depth is None or job.depth is None:
                return None
            return self.depth.locate(
                job.depth, frame, intrinsics, size_hw, parameters.depth_wait_s
            )

        def track(objects: Objects) -> Objects:
            associator = self._associator  # another thread may forget it
            return associator.update(objects, frame.stamp_ns) if associator else objects

        def find_pose() -> F64 | None:
            mount = parameters.camera[self.name].mount_xyz_rpy
            if any(mount):
                return base_from_optical(mount)
            return self._transforms.base_from_optical(parameters.base_frame, frame.frame_id)

        return FrameResult(
            frame=frame,
            segmentation=segmentation,
            parameters=parameters,
            intrinsics=intrinsics,
            find_depth=find_depth,
            track=track,
            find_pose=find_pose,
            count_unsupported=self.depth.count_unsupported if self.depth else lambda _: None,
        )

    def reject(self, error: InputError) -> None:
        """Counts a frame that cannot be used and says why."""
        is_unsupported = isinstance(error, EncodingError)
        self.account.drop(DropReason.UNSUPPORTED if is_unsupported else DropReason.MALFORMED)
        self._log.warning(self.name, f'{self.image_topic}: {error}')

    def close(self) -> None:
        """Leaves the camera and removes the publishers."""
        self.listen(False)
        self.outputs.destroy()

    @property
    def _group(self) -> CameraParameters:
        return self._parameters().camera[self.name]

    def _make_feed(self) -> Feed:
        return Feed(
            self._node,
            self._intake,
            self.name,
            lambda: self._parameters().image_reliability,
            self._log,
        )

    def _depth_input(self, topic: str) -> DepthInput:
        return DepthInput(
            self.name,
            self._resolved('depth_topic', topic),
            max_offset_s=self._parameters().depth_max_offset_s,
            is_rectified=self._group.is_rectified,
            log=self._log,
        )

    def _resolved(self, parameter: str, topic: str) -> str:
        """A topic name with namespace and remappings applied."""
        try:
            return str(self._node.resolve_topic_name(topic))
        except (NameValidationException, RuntimeError) as error:
            raise ConfigurationError(
                f"parameter {self.name}.{parameter}: expected a topic name, got '{topic}': "
                f'{" ".join(str(error).split())}'
            ) from error

    def _on_image(self, message: memoryview) -> None:
        self.account.receive()
        try:
            frame = serialized_to_frame(message, self.name)
            check_frame(frame, max_pixels=self._max_pixels)
        except InputError as error:
            self.reject(error)
            self.waiting.refuse_all(str(error))
        else:
            self._accept(frame)

    def _on_compressed(self, message: memoryview) -> None:
        self.account.receive()
        try:
            frame = read_compressed_image(message, self.name)
            check_compressed(frame, max_pixels=self._max_pixels)
        except InputError as error:
            self.reject(error)
            self.waiting.refuse_all(str(error))
        else:
            self._accept(frame)

    def _check_stamp(self, stamp_ns: int) -> None:
        """Counts and reports a stamp that cannot be; the frame is used all the same."""
        faults = self.timing.add(stamp_ns, now_ns(self._node.get_clock()))
        for fault in faults:
            self._log.warning(self.name, f'{self.image_topic}: {STAMP_REMEDIES[fault]}')
        if StampFault.BACKWARDS in faults and self.depth is not None:
            self.depth.turn_back(stamp_ns)  # the tracker sees it for itself, in its turn

    def _accept(self, frame: Frame | CompressedFrame) -> None:
        self._check_stamp(frame.stamp_ns)
        now_s = time.monotonic()
        requests = self.waiting.take()
        if not requests:
            if not self.is_enabled:
                self.account.drop(DropReason.INACTIVE)
                return
            if self._rate_limit.is_too_soon(now_s, self._group.max_rate_hz):
                self.account.drop(DropReason.RATE_LIMITED)
                return
            if self._load.is_shed(self.name):
                self.account.drop(DropReason.SHED)
                return
        depth = None
        if self.depth is not None and self._depth_feed.is_open:
            depth = self.depth.expect(frame.stamp_ns)
        job = Job(frame, now_s, requests, depth)
        replaced = self._mailboxes.put(self.name, job)
        if replaced is job:
            self.account.drop(DropReason.INACTIVE)
            self.waiting.put_back(requests, DEACTIVATED)
        elif replaced is not None:
            self.account.drop(DropReason.SUPERSEDED)

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self._intrinsics = camera_info_to_intrinsics(message)
        except GeometryError as error:
            self._log.warning(self.name, f'{self.camera_info_topic}: {error}')

"""Every parameter of the segmentation node, in one table.

The two frozen dataclasses below are the only place where a parameter's name, default, range and
description are written down: declaration and validation (`params_values`), the file
``config/segmentation.yaml`` and the documentation (`params_text`) are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from seg_perception.backends import EngineName, Precision, Switch
from seg_perception.imaging import DEFAULT_MAX_PIXELS
from seg_perception.models import DEFAULT_MODEL
from seg_perception.ros.options import option


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera, prefixed with its name: ``<camera>.image_topic``."""

    image_topic: str = option(
        '<camera>/image_raw', 'Topic of the images; resolved and remapped as topic names are.'
    )
    transport: str = option(
        'raw',
        'raw subscribes to image_topic, compressed to image_topic/compressed (JPEG or PNG).',
        choices=('raw', 'compressed'),
    )
    camera_info_topic: str = option(
        '', 'Topic of the calibration; empty for camera_info beside the image topic.'
    )
    depth_topic: str = option(
        '', 'Topic of the depth images, registered to the colour images; empty for none.'
    )
    depth_camera_info_topic: str = option(
        '', "Topic of the depth's calibration; empty for camera_info beside the depth topic."
    )
    rectified: str = option(
        'auto',
        'Whether the images are rectified; auto: if the last part of image_topic contains rect.',
        choices=get_args(Switch),
    )
    mount_xyz_rpy: tuple[float, ...] = option(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        'Pose of the camera (its body, x forward) in base_frame: x, y, z in metres; roll, pitch, '
        'yaw in degrees, positive pitch looks down. All 0 to ask TF.',
        minimum=-1000.0,
        maximum=1000.0,
    )
    max_rate_hz: float = option(
        0.0,
        'Frames per second at most; 0 for as many as the model can do.',
        minimum=0.0,
        maximum=1000.0,
        is_live=True,
    )
    expected_rate_hz: float = option(
        0.0,
        'Frames per second the camera should send, see rate_thresholds; 0 where unknown.',
        minimum=0.0,
        maximum=1000.0,
        is_live=True,
    )
    weight: float = option(
        1.0,
        'Share of the model when several cameras wait for it.',
        minimum=0.01,
        maximum=100.0,
        is_live=True,
    )

    @property
    def is_rectified(self) -> bool:
        """Whether the images are rectified, so that P and no distortion describes them."""
        if self.rectified == 'auto':
            return 'rect' in self.image_topic.rsplit('/', 1)[-1]
        return self.rectified == 'on'


@dataclass(frozen=True)
class Parameters:
    """Parameters of the segmentation node."""

    cameras: tuple[str, ...] = option(
        ('camera',), 'Names of the cameras; each has its own group of parameters.'
    )
    model: str = option(
        DEFAULT_MODEL,
        'Catalog name; hf:, torchvision: or smp: and a name or folder; triton:HOST:PORT/NAME; or '
        'path of a model card (.yaml) or model file (.onnx, .tflite, .pt2, .safetensors, '
        '.torchscript).',
        is_swapped=True,
    )
    prompts: tuple[str, ...] = option(
        ('',),
        "Words to look for, which become the classes, for models that take words; [''] for none.",
        is_swapped=True,
    )
    weights_path: str = option(
        '',
        "File to take the model's weights from; empty for where its card says.",
        is_swapped=True,
    )
    device: str = option(
        'auto', 'auto, cpu, cuda or cuda:N; auto takes a GPU where one is.', is_swapped=True
    )
    precision: str = option(
        'auto',
        'Arithmetic of the model; auto takes fp16 on a GPU and fp32 on a CPU; int8 is for '
        'quantised files.',
        choices=get_args(Precision),
        is_swapped=True,
    )
    input_size_wh: tuple[int, ...] = option(
        (0, 0),
        "Width and height of the model's input in pixels; [0, 0] for its card's.",
        minimum=0,
        maximum=8192,
        is_swapped=True,
    )
    channels_last: str = option(
        'auto',
        'Memory layout of the model; auto is channels last, which is quicker on CPUs and GPUs.',
        choices=get_args(Switch),
        is_swapped=True,
    )
    engine: str = option(
        'native',
        'What runs the model; native is the one that its format is made for: eager torch, '
        'onnxruntime or litert; auto measures what is installed once and keeps the quickest.',
        choices=get_args(EngineName),
        is_swapped=True,
    )
    trust_model_code: bool = option(
        False,
        'Load model files that can run code (.pt2, TorchScript); only for files you trust.',
    )
    num_threads: int = option(
        0,
        'CPU threads of the model; 0 leaves it to the library.',
        minimum=0,
        maximum=1024,
        is_swapped=True,
    )
    max_batch_size: int = option(
        8, 'Frames of different cameras the model takes at once.', minimum=1, maximum=64
    )
    batch_wait_ms: float = option(
        0.0,
        'How long frames wait for those of other cameras that are due, to share a batch.',
        minimum=0.0,
        maximum=1000.0,
        is_live=True,
    )
    confidence_threshold: float = option(
        0.0,
        'Pixels less sure than this (probability) get the unlabelled id.',
        minimum=0.0,
        maximum=1.0,
        is_live=True,
    )
    output_size_wh: tuple[int, ...] = option(
        (0, 0),
        "Width and height of all outputs in pixels; [0, 0] for the image's own.",
        minimum=0,
        maximum=16384,
    )
    mask_classes: tuple[str, ...] = option(
        ('',),
        "Classes that get a mask topic of their own; [''] for none, ['*'] for all.",
        is_swapped=True,
    )
    overlay_opacity: float = option(
        0.5, 'Opacity of the colours on the overlay.', minimum=0.0, maximum=1.0, is_live=True
    )
    overlay_boxes: bool = option(
        False, 'Draw a box with name and id around each object on the overlay.', is_live=True
    )
    object_classes: tuple[str, ...] = option(
        ('*',),
        "Classes whose regions are objects; ['*'] for all but background.",
        is_swapped=True,
    )
    object_min_area_px: int = option(
        100,
        'Smaller regions are no objects, pixels of the label image.',
        minimum=1,
        maximum=2**31,
        is_live=True,
    )
    object_tracking: bool = option(
        False, 'Give objects the ids they had in the frames before; else ids are new every frame.'
    )
    box_min_points: int = option(
        50,
        'Objects with fewer usable depth points get no 3-D box.',
        minimum=1,
        maximum=2**31,
        is_live=True,
    )
    box_erosion_px: int = option(
        2,
        'How far masks may reach beyond their objects, for 3-D boxes, pixels.',
        minimum=0,
        maximum=100,
        is_live=True,
    )
    point_classes: tuple[str, ...] = option(
        ('',),
        "Classes that get a cloud of their own; [''] for none, ['*'] for all.",
        is_swapped=True,
    )
    depth_max_offset_s: float = option(
        0.0,
        'How far apart the stamps of colour and depth may be, seconds; 0 for equal ones.',
        minimum=0.0,
        maximum=10.0,
    )
    depth_wait_s: float = option(
        0.05,
        'How long outputs made from depth wait for a depth image that comes late, seconds.',
        minimum=0.0,
        maximum=10.0,
        is_live=True,
    )
    grasp_target: str = option(
        '',
        'What the grasp outputs are about: a class, or the id of an object.',
        is_swapped=True,
    )
    grasp_padding_px: int = option(
        4,
        'How far around the target grasp/depth is emptied too, pixels of the depth image.',
        minimum=0,
        maximum=100,
        is_live=True,
    )
    drivable_classes: tuple[str, ...] = option(
        ('',),
        "Classes that can be driven on, for drivable and drivable_grid; [''] for neither.",
        is_swapped=True,
    )
    danger_classes: tuple[str, ...] = option(
        ('',),
        "Classes that cannot, the others being unknown; [''] for all others but background.",
        is_swapped=True,
    )
    base_frame: str = option(
        'base_footprint', "The robot's frame on the ground, for drivable_grid and upright boxes."
    )
    grid_resolution_m: float = option(
        0.05, 'Edge of a cell of drivable_grid, metres.', minimum=0.001, maximum=100.0
    )
    grid_extent_m: tuple[float, ...] = option(
        (0.0, 5.0, -2.5, 2.5),
        'x_min, x_max (forward), y_min, y_max (left) of drivable_grid in base_frame, metres.',
        minimum=-1000.0,
        maximum=1000.0,
    )
    grid_obstacle_height_m: tuple[float, ...] = option(
        (-0.3, 2.0),
        'Heights above the ground between which points that are not drivable are obstacles, '
        'metres.',
        minimum=-1000.0,
        maximum=1000.0,
    )
    latency_budget_ms: float = option(
        0.0,
        'Time from arrival to publishing that is kept by doing less where need be, see '
        'docs/faults.md; 0 for no limit.',
        minimum=0.0,
        maximum=60_000.0,
        is_live=True,
    )
    model_timeout_s: float = option(
        30.0,
        'A model that works on one batch for longer hangs and is loaded anew, seconds; 0 for '
        'no limit.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    server_timeout_s: float = option(
        1.0,
        'How long the server of a model that one runs (triton:) may take for an answer, seconds; '
        'less than model_timeout_s.',
        minimum=0.001,
        maximum=3600.0,
        is_swapped=True,
    )
    fallback_model: str = option(
        '',
        "Model of the same classes that runs here while the server of a triton: model doesn't "
        'answer, see docs/gpu_server.md; empty to drop those images.',
        is_swapped=True,
    )
    max_model_failures: int = option(
        10,
        'So many failures in a row have the model loaded anew; 0 for never.',
        minimum=0,
        maximum=100_000,
    )
    restart_delay_s: float = option(
        5.0,
        'With autostart, a node whose model is lost configures itself anew after this, then '
        'after twice as long and so on up to a minute, seconds; 0 for never.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    exit_on_fault: bool = option(
        False,
        'End the process with code 70 where only a new one can help (a device that failed, a '
        'model that hangs twice), so that launch may respawn it.',
        is_live=True,
    )
    label_info_sync: bool = option(
        False, 'Publish the class table on label_info_sync with the stamp of every frame.'
    )
    max_frame_age_s: float = option(
        0.0,
        'Frames with stamps farther than this from now when the model is free are dropped as '
        'stale, seconds; 0 for no limit.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    image_reliability: str = option(
        'best_effort',
        'What image and depth subscriptions ask of cameras: best_effort hears all of them, '
        'reliable has lost images sent again and hears only those that offer that, auto asks '
        'for it where all publishers of the topic offer it.',
        choices=('best_effort', 'reliable', 'auto'),
    )
    max_pixels: int = option(
        DEFAULT_MAX_PIXELS,
        'Larger images are refused before anything is allocated, pixels.',
        minimum=1,
        maximum=2**31,
    )
    lazy: bool = option(
        True, 'Receive and segment images only while somebody listens to an output.'
    )
    autostart: bool = option(
        True, 'Configure and activate at start; false leaves that to a lifecycle manager.'
    )
    diagnostics_period_s: float = option(
        1.0, 'Seconds between messages on /diagnostics.', minimum=0.1, maximum=3600.0
    )
    status_period_s: float = option(
        0.5, "Seconds between messages on each camera's status topic.", minimum=0.05, maximum=60.0
    )
    silence_thresholds_s: tuple[float, ...] = option(
        (3.0, 10.0),
        'A camera silent for longer is a warning and an error, seconds; 0 for never.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    rate_thresholds: tuple[float, ...] = option(
        (0.7, 0.3),
        'Shares of expected_rate_hz below which the rate received is a warning and an error.',
        minimum=0.0,
        maximum=1.0,
        is_live=True,
    )
    age_thresholds_s: tuple[float, ...] = option(
        (1.0, 0.0),
        'Images that arrive older than this are a warning and an error, seconds; 0 for never.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    camera: Mapping[str, CameraParameters] = field(default_factory=dict)

    @property
    def needs_tf(self) -> bool:
        """Whether the pose of a camera is wanted that is not stated."""
        return any(
            (group.depth_topic or any(self.drivable_classes)) and not any(group.mount_xyz_rpy)
            for group in self.camera.values()
        )

    @property
    def output_size_hw(self) -> tuple[int, int] | None:
        """Size of the outputs as rows and columns; None for the image's own."""
        return _as_hw(self.output_size_wh)

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Size of the model's input as rows and columns; None for its card's."""
        return _as_hw(self.input_size_wh)


def _as_hw(size_wh: tuple[int, ...]) -> tuple[int, int] | None:
    return (size_wh[1], size_wh[0]) if all(size_wh) else None

"""What the outputs' messages say, as values to draw.

Sources: vision_msgs/LabelInfo, Detection2DArray and Detection3DArray; sensor_msgs/PointCloud2.

Legend: N points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import PointCloud2, PointField

from seg_perception.errors import GeometryError
from seg_perception.ros.view.scene import Thing
from seg_perception.structures import U8, UNLABELED_IDS, ClassTable

_DTYPES = {
    PointField.INT8: 'i1',
    PointField.UINT8: 'u1',
    PointField.INT16: 'i2',
    PointField.UINT16: 'u2',
    PointField.INT32: 'i4',
    PointField.UINT32: 'u4',
    PointField.FLOAT32: 'f4',
    PointField.FLOAT64: 'f8',
}


def read_class_table(message: Any) -> ClassTable:
    """The classes of a LabelInfo; ids it leaves out are called by their number.

    Raises:
        ConfigurationError: two classes have one name, or none is named.
    """
    by_id = {int(item.class_id): str(item.class_name) for item in message.class_map}
    named = [class_id for class_id in by_id if class_id not in UNLABELED_IDS]
    return ClassTable(tuple(by_id.get(i) or str(i) for i in range(max(named, default=-1) + 1)))


def read_objects(message: Any) -> list[Thing]:
    """The objects of a Detection2DArray."""
    things = []
    for detection in message.detections:
        box = detection.bbox
        # Pixel centres are at whole numbers, edges between them.
        left = box.center.position.x - (box.size_x - 1.0) / 2
        top = box.center.position.y - (box.size_y - 1.0) / 2
        box_xyxy_px = left, top, left + box.size_x, top + box.size_y
        things.append(Thing(*_hypothesis(detection), box_xyxy_px=box_xyxy_px))
    return things


def read_boxes(message: Any) -> list[Thing]:
    """The objects of a Detection3DArray."""
    things = []
    for detection in message.detections:
        pose, size = detection.bbox.center, detection.bbox.size
        at, turn = pose.position, pose.orientation
        things.append(
            Thing(
                *_hypothesis(detection),
                center_xyz_m=(at.x, at.y, at.z),
                size_xyz_m=(size.x, size.y, size.z),
                quaternion_xyzw=(turn.x, turn.y, turn.z, turn.w),
            )
        )
    return things


def read_points(
    message: PointCloud2,
) -> tuple[npt.NDArray[np.float32], U8, npt.NDArray[np.integer[Any]]]:
    """Places (N, 3) in metres, colours (N, 3) and class ids (N,) of a cloud.

    Colours are grey and ids those of no class where the cloud has none.

    Raises:
        GeometryError: it has no x, y and z, or fewer bytes than it says.
    """
    order = '>' if message.is_bigendian else '<'
    fields = {f.name: (order + _DTYPES[f.datatype], f.offset) for f in message.fields}
    num_points = message.width * message.height
    is_dense_rows = message.row_step in (0, message.point_step * message.width)
    if not {'x', 'y', 'z'} <= fields.keys():
        raise GeometryError(f'expected a cloud with x, y and z, got {sorted(fields)}')
    if not is_dense_rows or len(message.data) < num_points * message.point_step:
        raise GeometryError(
            f'expected {num_points} points of {message.point_step} B in unpadded rows, got '
            f'{len(message.data)} B in rows of {message.row_step} B'
        )
    dtype = np.dtype(
        {
            'names': list(fields),
            'formats': [kind for kind, _ in fields.values()],
            'offsets': [offset for _, offset in fields.values()],
            'itemsize': message.point_step,
        }
    )
    points_N = np.frombuffer(message.data, dtype, num_points)
    xyz_m_N3 = np.stack([points_N[axis] for axis in 'xyz'], axis=1).astype(np.float32, copy=False)
    colors_N3 = np.full((num_points, 3), 180, np.uint8)
    if 'rgb' in fields:
        rgb_N = np.ascontiguousarray(points_N['rgb']).view(order + 'u4')
        colors_N3 = np.stack([rgb_N >> 16, rgb_N >> 8, rgb_N], axis=1).astype(np.uint8)
    labels_N = points_N['label'] if 'label' in fields else np.full(num_points, UNLABELED_IDS[1])
    return xyz_m_N3, colors_N3, labels_N


def _hypothesis(detection: Any) -> tuple[str, str, float]:
    """Class, id and score."""
    best = detection.results[0].hypothesis if detection.results else None
    if best is None:
        return '?', str(detection.id), 0.0
    return str(best.class_id), str(detection.id), float(best.score)

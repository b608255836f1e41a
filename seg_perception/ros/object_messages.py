"""Points and boxes as messages.

Sources: vision_msgs/Detection3DArray; visualization_msgs/MarkerArray;
sensor_msgs/PointCloud2.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from seg_perception.geometry import POINT_DTYPE, OrientedBox
from seg_perception.structures import ClassTable, ObjectInstance, Objects

MARKER_LIFETIME = Duration(sec=3)
"""After this RViz removes the last frame's boxes; a slow model's must not vanish in between."""
MIN_MARKER_SIZE_M = 0.002
"""RViz does not draw what has no extent in a direction; a flat surface has none."""

NAME_HEIGHT_M = 0.08
NAME_SPACE_M = 0.05
"""Between words, which RViz takes from scale.x; were it 0, spaces would fit letters of 1 m."""

_POINT_FIELD_TYPES = {
    'f4': PointField.FLOAT32,
    'u4': PointField.UINT32,
    'u2': PointField.UINT16,
    'u1': PointField.UINT8,
}


def boxes_to_detections(
    objects: Objects, boxes: Mapping[int, OrientedBox | None], classes: ClassTable, header: Header
) -> Any:
    """A vision_msgs/Detection3DArray of the objects that have a box, in the camera's frame."""
    from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray

    detections = []
    for item in objects.items:
        box = boxes.get(item.id)
        if box is None:
            continue
        hypothesis = _hypothesis(item, classes)
        hypothesis.pose.pose = _pose(box)
        detections.append(
            Detection3D(
                header=header,
                results=[hypothesis],
                bbox=BoundingBox3D(center=_pose(box), size=_vector(box.size_xyz_m)),
                id=str(item.id),
            )
        )
    return Detection3DArray(header=header, detections=detections)


def boxes_to_markers(
    objects: Objects, boxes: Mapping[int, OrientedBox | None], classes: ClassTable, header: Header
) -> MarkerArray:
    """For RViz: each box in its class's colour, with name and size above it.

    The first marker deletes those of the frame before, whose objects may have vanished.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for item in objects.items:
        box = boxes.get(item.id)
        if box is None:
            continue
        red, green, blue = (value / 255.0 for value in classes.colors_rgb[item.class_id])
        size_xyz_m = [max(extent, MIN_MARKER_SIZE_M) for extent in box.size_xyz_m]
        shared: dict[str, Any] = {
            'header': header,
            'id': item.id,
            'action': Marker.ADD,
            'lifetime': MARKER_LIFETIME,
        }
        markers.append(
            Marker(
                ns='boxes',
                type=Marker.CUBE,
                pose=_pose(box),
                scale=_vector(size_xyz_m),
                color=ColorRGBA(r=red, g=green, b=blue, a=0.4),
                **shared,
            )
        )
        name_pose = _pose(box)
        x, y, z = _up(box)
        above_m = size_xyz_m[2] / 2 + NAME_HEIGHT_M
        name_pose.position.x += x * above_m
        name_pose.position.y += y * above_m
        name_pose.position.z += z * above_m
        size_text = ' x '.join(f'{extent:.2f}' for extent in box.size_xyz_m)
        markers.append(
            Marker(
                ns='names',
                type=Marker.TEXT_VIEW_FACING,
                pose=name_pose,
                scale=Vector3(x=NAME_SPACE_M, z=NAME_HEIGHT_M),
                color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
                text=f'{classes.names[item.class_id]} {item.id}: {size_text} m',
                **shared,
            )
        )
    return MarkerArray(markers=markers)


def points_to_cloud(
    data: array.array[int], shape: tuple[int, ...], header: Header, *, has_confidence: bool
) -> PointCloud2:
    """A PointCloud2 of the bytes of an array of ``POINT_DTYPE``, which are not copied.

    Args:
        data: the bytes.
        shape: (height, width), or (N,) for an unorganised cloud of finite points.
        header: of the colour image; coordinates are in its frame.
        has_confidence: whether the confidence is known, so that the field is there.
    """
    height, width = shape if len(shape) == 2 else (1, shape[0])
    names = [name for name in POINT_DTYPE.names or () if has_confidence or name != 'confidence']
    fields = []
    for name in names:
        dtype, offset = POINT_DTYPE.fields[name][:2]  # type: ignore[index]
        datatype = _POINT_FIELD_TYPES[dtype.str[1:]]
        fields.append(PointField(name=name, offset=offset, datatype=datatype, count=1))
    return PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=False,
        point_step=POINT_DTYPE.itemsize,
        row_step=POINT_DTYPE.itemsize * width,
        is_dense=len(shape) == 1,
        data=data,
    )


def _hypothesis(item: ObjectInstance, classes: ClassTable) -> Any:
    from vision_msgs.msg import ObjectHypothesisWithPose

    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = classes.names[item.class_id]
    result.hypothesis.score = item.score
    return result


def _pose(box: OrientedBox) -> Pose:
    x, y, z = box.center_xyz_m
    qx, qy, qz, qw = box.quaternion_xyzw
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _vector(xyz: Any) -> Vector3:
    x, y, z = xyz
    return Vector3(x=x, y=y, z=z)


def _up(box: OrientedBox) -> tuple[float, float, float]:
    """The box's z axis in the camera's frame."""
    x, y, z, w = box.quaternion_xyzw
    return 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)

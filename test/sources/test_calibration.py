"""Calibration files and made-up cameras."""

from __future__ import annotations

import pytest
import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.sources.calibration import intrinsics_from_fov, read_calibration

WRITTEN_BY_CAMERA_CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [438.78, 0.    , 305.59,
         0.    , 437.33, 243.73,
         0.    , 0.    , 1.    ]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.361976, 0.110510, 0.001014, 0.000505, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [393.65, 0., 322.79, 0., 0., 393.65, 241.09, 0., 0., 0., 1., 0.]
"""


def test_reads_what_camera_calibration_writes(tmp_path):
    path = tmp_path / 'camera.yaml'
    path.write_text(WRITTEN_BY_CAMERA_CALIBRATION)
    intrinsics = read_calibration(path)
    assert intrinsics.size_wh == (640, 480)
    assert intrinsics.k == (438.78, 0.0, 305.59, 0.0, 437.33, 243.73, 0.0, 0.0, 1.0)
    assert intrinsics.p[2] == 322.79
    assert intrinsics.d == (-0.361976, 0.110510, 0.001014, 0.000505, 0.0)
    assert intrinsics.distortion_model == 'plumb_bob'


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('image_width', '640', "expected image_width to be a positive whole number, got '640'"),
        ('image_height', 0, 'expected image_height to be a positive whole number, got 0'),
        ('camera_matrix', None, '3x3 numbers under camera_matrix.data, got None'),
        ('projection_matrix', {'data': [1.0] * 9}, '3x4 numbers under projection_matrix.data'),
        ('rectification_matrix', {'data': ['a'] * 9}, '3x3 numbers under rectification_matrix'),
        ('camera_matrix', {'data': [10**400] * 9}, '3x3 numbers under camera_matrix'),
        ('camera_matrix', {'data': [float('nan')] * 9}, '3x3 numbers under camera_matrix'),
    ],
)
def test_each_broken_field_is_named(tmp_path, name, value, message):
    content = yaml.safe_load(WRITTEN_BY_CAMERA_CALIBRATION)
    content[name] = value
    path = tmp_path / 'camera.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigurationError, match=message):
        read_calibration(path)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[1, 2]', 'got a list'),
        ('{', 'is no YAML'),
        ('2001-99-99', 'is no YAML'),
        (None, 'cannot be read'),
    ],
)
def test_files_that_are_no_calibration(tmp_path, text, message):
    path = tmp_path / 'camera.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_calibration(path)


def test_field_of_view():
    intrinsics = intrinsics_from_fov((640, 480), 90.0)
    assert intrinsics.k == pytest.approx((320, 0, 319.5, 0, 320, 239.5, 0, 0, 1))
    assert intrinsics.p == pytest.approx((320, 0, 319.5, 0, 0, 320, 239.5, 0, 0, 0, 1, 0))
    with pytest.raises(ConfigurationError, match='between 0 and 180 degrees, got 180'):
        intrinsics_from_fov((640, 480), 180.0)

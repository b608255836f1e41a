"""What an installation holds, for pip and for colcon, and that both say the same."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

PACKAGE = 'seg_perception'
CHECKOUT = Path(__file__).resolve().parents[1]
NODES = ('image_source_node', 'monitor_node', 'segmentation_node')

# The hashes that vision_msgs 4.1 has on every machine (REP 2011): computed from the official
# definitions, so that what is built here talks to the official package.
VISION_MSGS_HASHES = {
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'BoundingBox2DArray': '2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691',
    'BoundingBox3D': 'bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698',
    'BoundingBox3DArray': 'a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6',
    'Classification': 'f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'Detection3D': 'ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b',
    'Detection3DArray': '793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose': '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'VisionClass': '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'VisionInfo': '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}


def run(command, *, cwd, env=None, timeout_s=120):
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert result.returncode == 0, f'{command}:\n{result.stdout}\n{result.stderr}'
    return result.stdout


def shipped_files():
    """What an installation must have under share/, by its path in the checkout."""
    files = [CHECKOUT / 'package.xml']
    for folder in ('launch', 'config'):
        files += [p for p in (CHECKOUT / folder).rglob('*') if p.is_file()]
    return sorted(str(p.relative_to(CHECKOUT)) for p in files if '__pycache__' not in p.parts)


def assert_complete(prefix: Path, site_packages: Path) -> None:
    """The prefix holds all that ROS tools, launch files and the library look for."""
    marker = prefix / 'share/ament_index/resource_index/packages' / PACKAGE
    assert marker.is_file()
    share = prefix / 'share' / PACKAGE
    for name in shipped_files():
        assert (share / name).read_bytes() == (CHECKOUT / name).read_bytes(), name
    for node in NODES:
        assert os.access(prefix / 'lib' / PACKAGE / node, os.X_OK), node
    for path in (CHECKOUT / PACKAGE).rglob('*'):
        if path.is_file() and '__pycache__' not in path.parts:
            assert (site_packages / path.relative_to(CHECKOUT)).is_file(), path.name


@pytest.fixture(scope='module')
def pip_prefix():
    """Prefix of the pip installation under test."""
    prefix = Path(sys.prefix)
    if not (prefix / 'share' / PACKAGE / 'package.xml').is_file():
        pytest.skip('seg_perception is not installed with pip in this environment: scripts/test does')
    return prefix


def test_manifest_names_every_message_package_the_code_imports():
    manifest = ET.parse(CHECKOUT / 'package.xml').getroot()
    assert manifest.get('format') == '3'
    depends = {element.text for element in manifest if element.tag.endswith('depend')}
    pattern = re.compile(r'^\s*(?:from|import) (\w+_(?:msgs|srvs|interfaces)|rclpy)\b', re.MULTILINE)
    imported = set()
    for path in (CHECKOUT / PACKAGE / 'ros').rglob('*.py'):
        imported |= set(pattern.findall(path.read_text(encoding='utf-8')))
    assert imported
    assert imported <= depends


def test_manifest_is_valid():
    # An invalid one silently turns the package into one that colcon does not install for ROS.
    catkin_pkg = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    warnings = []
    package = catkin_pkg.parse_package(str(CHECKOUT / 'package.xml'), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.get_build_type() == 'ament_python'


def test_version_is_stated_once(pip_prefix):
    version = ET.parse(CHECKOUT / 'package.xml').getroot().findtext('version')
    assert importlib.metadata.version(PACKAGE) == version
    changelog = (CHECKOUT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    assert f'Changelog for package {PACKAGE}' in changelog
    assert re.search(rf'^(Forthcoming|{re.escape(version)})\b', changelog, re.MULTILINE)


def test_pip_installs_everything(pip_prefix):
    spec = importlib.util.find_spec(PACKAGE)
    assert Path(spec.origin).is_relative_to(pip_prefix), 'the checkout shadows the installation'
    assert_complete(pip_prefix, Path(spec.origin).parents[1])


def test_ament_index_finds_the_pip_installation(pip_prefix, monkeypatch):
    packages = pytest.importorskip('ament_index_python.packages', reason='ROS 2 is not installed')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(pip_prefix))
    assert Path(packages.get_package_prefix(PACKAGE)) == pip_prefix
    assert (Path(packages.get_package_share_directory(PACKAGE)) / 'config/dds/fastdds.xml').is_file()


def bare_environment(**variables):
    """An environment that names no ROS installation and no Python environment."""
    kept = ('HOME', 'PATH', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'TMPDIR')
    return {name: os.environ[name] for name in kept if name in os.environ} | variables


def test_command_line_runs(pip_prefix, tmp_path):
    output = run(
        [pip_prefix / 'bin/seg-perception', '--help'], cwd=tmp_path, env=bare_environment()
    )
    assert 'usage: seg-perception' in output


@pytest.mark.parametrize('node', NODES)
def test_node_executables_use_the_python_beside_them(pip_prefix, tmp_path, node):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    # Neither the environment is activated, nor is a setup file sourced, nor is a foreign package of
    # the same name in the working directory taken.
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / '__init__.py').write_text('raise RuntimeError("taken from the cwd")')
    executable = pip_prefix / 'lib' / PACKAGE / node
    result = subprocess.run(
        [executable, '--ros-args', '--log-level', 'not-a-level'],
        cwd=tmp_path,
        env=bare_environment(PATH='/usr/bin:/bin'),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode != 0
    assert 'not-a-level' in result.stderr

"""What an installation holds, for pip and for colcon, and that both say the same."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
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
        pytest.skip(
            'seg_perception is not installed with pip in this environment: scripts/test does'
        )
    return prefix


def test_manifest_names_every_message_package_the_code_imports():
    manifest = ET.parse(CHECKOUT / 'package.xml').getroot()
    assert manifest.get('format') == '3'
    depends = {element.text for element in manifest if element.tag.endswith('depend')}
    pattern = re.compile(
        r'^\s*(?:from|import) (\w+_(?:msgs|srvs|interfaces)|rclpy)\b', re.MULTILINE
    )
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
    assert (
        Path(packages.get_package_share_directory(PACKAGE)) / 'config/dds/fastdds.xml'
    ).is_file()


def bare_environment(**variables):
    """An environment that names no ROS installation and no Python environment."""
    kept = ('HOME', 'PATH', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'TMPDIR')
    return {name: os.environ[name] for name in kept if name in os.environ} | variables


def test_command_line_runs(pip_prefix, tmp_path):
    output = run(
        [pip_prefix / 'bin/seg-perception', '--help'], cwd=tmp_path, env=bare_environment()
    )
    assert 'usage: seg-perception' in output


def handles_sigterm(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM: shells and bare Python have none."""
    status = Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
    caught = int(re.search(r'^SigCgt:\s*(\w+)$', status, re.MULTILINE)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def start_and_stop(command, *, cwd, env):
    """Start a node, send SIGINT once it handles signals; its exit code and what it printed."""
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and not handles_sigterm(process.pid):
                assert time.monotonic() < deadline, f'{command[0]} never got to its main loop'
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, output


@pytest.mark.ros
@pytest.mark.parametrize('node', NODES)
def test_node_executables_use_the_python_beside_them(pip_prefix, tmp_path, node):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    # The environment is not activated and no setup file is sourced; a folder of the same name in
    # the working directory must not be taken for the package.
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / '__init__.py').write_text('raise RuntimeError("taken from the cwd")')
    exit_code, output = start_and_stop(
        [pip_prefix / 'lib' / PACKAGE / node],
        cwd=tmp_path,
        env=bare_environment(PATH='/usr/bin:/bin'),
    )
    assert exit_code == 0, output
    assert 'Traceback' not in output


@pytest.fixture(scope='module', params=['copied', 'symlinked'])
def colcon_workspace(request, tmp_path_factory):
    """A workspace with the checkout in src/, built by colcon, and the environment to use it."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    colcon = shutil.which('colcon')
    if colcon is None:
        pytest.skip('colcon is not on PATH: install colcon-common-extensions (extra: test)')
    workspace = tmp_path_factory.mktemp(f'colcon_{request.param}')
    ignored = shutil.ignore_patterns('.*', '__pycache__', 'build', 'install', 'log', 'out')
    shutil.copytree(CHECKOUT, workspace / 'src', ignore=ignored)
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE='1')
    listed = run([colcon, 'list'], cwd=workspace, env=env)
    # Plain python as build type would mean an invalid package.xml.
    assert listed.split() == [PACKAGE, 'src', '(ros.ament_python)']
    options = ['--symlink-install'] if request.param == 'symlinked' else []
    # easy_install, which symlinked installations still go through, warns about itself.
    run([colcon, 'build', *options], cwd=workspace, env=env | {'PYTHONWARNINGS': 'ignore'})
    return workspace


@pytest.mark.slow
@pytest.mark.ros
def test_colcon_installs_everything(colcon_workspace):
    prefix = colcon_workspace / 'install' / PACKAGE
    [site_packages] = prefix.glob('lib/python3*/site-packages')
    if not (site_packages / PACKAGE).is_dir():
        site_packages = colcon_workspace / 'build' / PACKAGE
    assert_complete(prefix, site_packages)


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize('node', NODES)
def test_colcon_executables_run_from_the_install_space(colcon_workspace, tmp_path, node):
    # As a user does: source the workspace; ask the ament index, like ros2 run; start the node.
    script = f"""
        . install/setup.bash
        cd {tmp_path}
        python3 -c "import seg_perception as s; print(s.__file__)" >where
        prefix=$(python3 -c "import ament_index_python as a; print(a.get_package_prefix('$0'))")
        exec "$prefix/lib/$0/{node}"
    """
    exit_code, output = start_and_stop(
        ['bash', '-c', script, PACKAGE], cwd=colcon_workspace, env=dict(os.environ)
    )
    assert exit_code == 0, output
    assert 'Traceback' not in output
    origin = Path((tmp_path / 'where').read_text(encoding='utf-8').strip())
    assert origin.is_relative_to(colcon_workspace)


@pytest.mark.slow
@pytest.mark.ros
def test_colcon_command_line_runs(colcon_workspace):
    script = f'. install/setup.bash && exec install/{PACKAGE}/lib/{PACKAGE}/seg-perception --help'
    output = run(['bash', '-c', script], cwd=colcon_workspace, env=dict(os.environ))
    assert 'usage: seg-perception' in output


def test_vision_msgs_definitions_have_the_official_hashes():
    typesys = pytest.importorskip(
        'rosbags.typesys', reason='rosbags is not installed (extra: bag)'
    )
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    types = {}
    for path in sorted((CHECKOUT / 'scripts/vision_msgs/msg').glob('*.msg')):
        text = path.read_text(encoding='utf-8')
        types |= typesys.get_types_from_msg(text, f'vision_msgs/msg/{path.stem}')
    store.register(types)
    hashes = {name.rpartition('/')[2]: store.hash_rihs01(name) for name in types}
    assert hashes == {name: f'RIHS01_{value}' for name, value in VISION_MSGS_HASHES.items()}


def test_our_tf2_msgs_is_the_official_one():
    typesys = pytest.importorskip(
        'rosbags.typesys', reason='rosbags is not installed (extra: bag)'
    )
    name = 'tf2_msgs/msg/TFMessage'
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    text = (CHECKOUT / 'scripts/tf2_msgs/msg/TFMessage.msg').read_text(encoding='utf-8')
    ours = typesys.get_types_from_msg(text, name)[name]
    assert ours == store.fielddefs[name]


@pytest.mark.parametrize('name', VISION_MSGS_HASHES)
def test_installed_vision_msgs_have_the_official_hashes(name):
    pytest.importorskip(
        'vision_msgs', reason='vision_msgs is not installed: scripts/setup builds it'
    )
    packages = pytest.importorskip('ament_index_python.packages')
    try:
        share = Path(packages.get_package_share_directory('vision_msgs'))
    except LookupError:
        pytest.skip('vision_msgs is not in the ament index: AMENT_PREFIX_PATH is not set')
    description = json.loads((share / f'msg/{name}.json').read_text(encoding='utf-8'))
    hashes = {entry['type_name']: entry['hash_string'] for entry in description['type_hashes']}
    assert hashes[f'vision_msgs/msg/{name}'] == f'RIHS01_{VISION_MSGS_HASHES[name]}'

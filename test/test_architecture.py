"""The import rules of the package: one direction, and ROS only at its edge."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = 'seg_perception'

CORE = {'compiled', 'errors', 'image_memory', 'structures', 'whole_file'}
PIXELS = CORE | {'imaging', 'geometry'}
RUNNING = PIXELS | {'messages', 'models', 'backends', 'postprocess', 'pipeline', 'sources'}

# What each part may import, itself aside. '' is the package's own __init__.
MAY_IMPORT = {
    '': RUNNING,
    'compiled': set(),
    'errors': set(),
    'freed_memory': set(),
    'image_memory': set(),
    'structures': {'errors'},
    'whole_file': {'errors'},
    'interruption': set(),
    'progress': {'errors'},
    'imaging': CORE,
    'geometry': CORE,
    'messages': PIXELS,
    'sources': PIXELS | {'messages'},
    'models': PIXELS,
    'backends': PIXELS | {'models'},
    'postprocess': PIXELS | {'models'},
    'pipeline': PIXELS | {'models', 'backends', 'postprocess'},
    'recovery': RUNNING,
    'fallback': RUNNING,
    'navigation': PIXELS | {'models', 'postprocess'},
    'batch': RUNNING | {'progress'},
    'recordings': RUNNING | {'batch', 'freed_memory', 'progress'},
    'training': RUNNING | {'progress'},
    'zoo': RUNNING | {'progress'},
    'benchmarks': RUNNING,
    'ros': RUNNING
    | {'interruption', 'navigation', 'benchmarks', 'freed_memory', 'recovery', 'fallback'},
    'cli': RUNNING
    | {'navigation', 'training', 'zoo', 'benchmarks', 'batch', 'recordings', 'progress', 'ros'}
    | {'freed_memory', 'interruption'},
}

ROS_MODULE = re.compile(
    r'rclpy|rcl\w*|rosidl\w*|ament_\w+|launch|launch_\w+|cv_bridge|message_filters|tf2_\w+'
    r'|diagnostic_updater|image_geometry|\w+_(?:msgs|srvs|interfaces)'
)
# Extras: their absence may cost a feature, never an import of this package.
OPTIONAL_MODULES = (
    'ai_edge_litert',
    'huggingface_hub',
    'kornia',
    'matplotlib',
    'onnx',
    'onnxruntime',
    'openvino',
    'psutil',
    'pyarrow',
    'pycocotools',
    'ray',
    'rerun',
    'rich',
    'rosbags',
    'segmentation_models_pytorch',
    'skimage',
    'tensorboard',
    'timm',
    'torchvision',
    'tqdm',
    'transformers',
    'triton',
    'tritonclient',
)
VAGUE_NAMES = {'utils', 'util', 'helpers', 'helper', 'common', 'manager', 'misc'}


def package_root() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


ROOT = package_root()
FILES = sorted(ROOT.rglob('*.py'))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
CHECKOUT = Path(__file__).parents[1]
# What runs on a robot only, or in a process of its own; nothing imports it in the tests.
STARTING = sorted((CHECKOUT / 'launch').glob('*.py')) + sorted(
    path for path in (CHECKOUT / 'resource/executables').iterdir() if path.is_file()
)


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return (
        ''
        if relative.name == '__init__.py' == str(relative)
        else relative.parts[0].removesuffix('.py')
    )


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything imported anywhere in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'line {node.lineno}: relative import'
            assert node.module is not None
            for alias in node.names:
                # ``from seg_perception import models`` names a part in the alias.
                is_part = node.module == PACKAGE and alias.name in MAY_IMPORT
                yield node.lineno, f'{PACKAGE}.{alias.name}' if is_part else node.module


def forbidden_imports(part: str, source: str) -> list[str]:
    """One line for each import of the source that its part may not have."""
    complaints = []
    for line, name in imported_modules(source):
        top, _, rest = name.partition('.')
        target = rest.partition('.')[0]
        if top == PACKAGE and target and target != part and target not in MAY_IMPORT[part]:
            complaints.append(f'line {line}: {part or PACKAGE} may not import {target}')
        if top == PACKAGE and not target and part:
            complaints.append(
                f'line {line}: import from the module that has it, not from {PACKAGE}'
            )
        if part != 'ros' and ROS_MODULE.fullmatch(top):
            complaints.append(f'line {line}: {top} is ROS and belongs into ros/')
    return complaints


def test_rules_catch_what_they_forbid():
    assert forbidden_imports('postprocess', 'from seg_perception.backends import protocol')
    assert forbidden_imports('imaging', 'def f():\n    from seg_perception import pipeline')
    assert forbidden_imports('pipeline', 'from seg_perception import Segmenter')
    assert forbidden_imports('', 'import seg_perception.ros.node')
    assert forbidden_imports('imaging', 'from sensor_msgs.msg import Image')
    assert forbidden_imports('cli', 'import rclpy')
    assert not forbidden_imports(
        'ros', 'import rclpy\nfrom seg_perception.pipeline import Segmenter'
    )
    assert not forbidden_imports('cli', 'from seg_perception.ros.demo import run_demo')


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_imports_point_one_way(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f'{part} has no place in the order of imports; give it one'
    assert forbidden_imports(part, path.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize('name', NAMES)
def test_names_say_what_is_inside(name):
    assert VAGUE_NAMES.isdisjoint(re.split(r'[/.]', name))


def test_every_folder_with_modules_is_a_package():
    # setup.py finds packages by their __init__.py; a folder without one would not be installed.
    assert [str(path) for path in FILES if not (path.parent / '__init__.py').is_file()] == []


BLOCKED_IMPORTS = """
import importlib, re, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if re.fullmatch(sys.argv[1], name.partition('.')[0]):
            raise ModuleNotFoundError(f'{name} is blocked by the test', name=name)

sys.meta_path.insert(0, Blocker())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))
"""


def import_without(blocked: str, modules: list[str]) -> set[str]:
    """The top-level modules of a new process that imported these while others were blocked."""
    # The child must not see more than this process does.
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT.parent)]))
    result = subprocess.run(
        [sys.executable, '-c', BLOCKED_IMPORTS, blocked, *modules],
        env=env,
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def module_name(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix('').parts]
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def test_everything_outside_ros_imports_without_ros_and_extras():
    modules = [
        module_name(path)
        for path in FILES
        # Kernels, which are nothing without their language; what launches them imports them late.
        if part_of(path) != 'ros' and not path.name.startswith('triton_')
    ]
    blocked = '|'.join([ROS_MODULE.pattern, *OPTIONAL_MODULES])
    loaded = import_without(blocked, modules)
    assert {PACKAGE, 'numpy', 'torch'} <= loaded


def test_importing_the_package_is_cheap():
    # Sources and command lines must not wait for torch, nor need OpenCV.
    assert import_without('nothing', [PACKAGE]).isdisjoint(
        {'torch', 'cv2', 'rclpy', 'onnxruntime'}
    )


@pytest.mark.parametrize('path', STARTING, ids=lambda path: path.name)
def test_what_starts_nodes_imports_names_that_the_package_has(path):
    """Tests may run where there is no ``ros2 launch``: a name that was moved is seen here."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(f'{PACKAGE}.'):
            module = importlib.import_module(node.module)
            assert {alias.name for alias in node.names} <= vars(module).keys()


def test_launch_files_load_no_opencv():
    """Those of pip point Qt at plugins of their own, by the environment; RViz would die of it."""
    modules = {
        node.module
        for path in STARTING
        if path.suffix == '.py'
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(f'{PACKAGE}.')
    }
    assert modules
    assert 'cv2' not in import_without('nothing', sorted(modules))

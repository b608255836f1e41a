"""Installs the same files for ``pip install .`` and for ``colcon build``.

Name, version and description are read from package.xml, so that they are stated once.
"""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
MANIFEST = ET.parse(HERE / 'package.xml').getroot()
NAME = MANIFEST.findtext('name')
MAINTAINER = MANIFEST.find('maintainer')
README = HERE / 'README.md'

# ROS 2 as pip wheels, for machines without a ROS installation. Never a hard dependency: on a robot
# these would shadow the robot's own ROS.
WHEEL_PLATFORM = 'platform_machine == "x86_64" and sys_platform == "linux"'
ROS_WHEELS = {
    'jazzy': ('rclpy==7.1.6', 'rmw-fastrtps-cpp==8.4.3', 'common-interfaces==5.3.6'),
    'kilted': ('rclpy==9.1.2', 'rmw-fastrtps-cpp==9.3.3', 'common-interfaces==5.5.1'),
}


def ros_wheels(distro):
    """The requirements that make ROS 2 importable in a virtual environment."""
    return [f'ros-{distro}-{pin}; {WHEEL_PLATFORM}' for pin in ROS_WHEELS[distro]]


EXTRAS = {
    'ros': ros_wheels('jazzy'),
    'ros-kilted': ros_wheels('kilted'),
    'bag': ['rosbags>=0.11', 'tqdm>=4.60'],
    'bench': ['matplotlib>=3.7', 'psutil>=5.9', 'scikit-image>=0.22'],
    'coco': ['pycocotools>=2.0.7'],
    'demo': ['rich>=13', 'scikit-image>=0.22'],
    'docs': ['mkdocs>=1.6', 'mkdocs-material>=9.5'],
    'hf': ['huggingface_hub>=0.30', 'transformers>=4.56'],
    # onnx and onnxscript export torch networks for onnxruntime
    'onnx': ['onnx>=1.15', 'onnxruntime>=1.17', 'onnxscript>=0.1'],
    'openvino': ['openvino>=2024.4'],
    # progress and COCO files of seg-perception segment, which works without them
    'segment': ['pycocotools>=2.0.7', 'tqdm>=4.60'],
    'smp': ['segmentation-models-pytorch>=0.4'],
    'tflite': ['ai-edge-litert>=1.0'],
    # backbones of some models of transformers; needs the torchvision of torch's own build
    'timm': ['timm>=1.0', 'torchvision>=0.19'],
    'torchvision': ['torchvision>=0.19'],
    'triton': ['tritonclient[grpc]>=2.40'],
    'train': [
        'kornia>=0.7',
        'matplotlib>=3.7',
        'onnx>=1.15',
        'onnxruntime>=1.17',
        'onnxscript>=0.1',
        'pycocotools>=2.0.7',
        'tqdm>=4.60',
    ],
    'view': ['rerun-sdk>=0.34; python_version >= "3.11"'],
    'ray': ['ray>=2.9'],
    # tables and pictures of recordings
    'stats': ['matplotlib>=3.7', 'pyarrow>=14'],
    'tensorboard': ['tensorboard>=2.12'],
    'test': [
        # colcon builds ament_python packages through interfaces that setuptools 80 removed.
        'colcon-common-extensions',
        'setuptools<80',
        'hypothesis>=6',
        'mcap>=1.1',
        'mcap-ros2-support>=0.5',
        'onnx>=1.15',
        'onnxscript>=0.1',
        'psutil>=5.9',
        # brings a CT slice, for what the documentation does with DICOM
        'pydicom>=2.4',
        # pytest 9 breaks the launch_testing plugin of a sourced ROS installation.
        'pytest>=7.4,<9',
        'pytest-timeout>=2.1',
        # the whole suite on two cores at once
        'pytest-xdist>=3.3',
        'scikit-image>=0.22',
        'scikit-learn>=1.3',
        'scipy>=1.10',
        'torchmetrics>=1.4',
    ],
    'fuzz': ['atheris>=2.3'],
    'check': ['mypy', 'ruff', 'types-PyYAML', 'types-psutil', 'types-tqdm'],
}


def share_files(*folders):
    """data_files entries that put each folder, with its structure, into share/<name>/."""
    entries = {}
    for folder in folders:
        for path in sorted((HERE / folder).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                relative = path.relative_to(HERE)
                target = os.path.join('share', NAME, str(relative.parent))
                entries.setdefault(target, []).append(str(relative))
    return sorted(entries.items())


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=' '.join(MANIFEST.findtext('description').split()),
    long_description=README.read_text(encoding='utf-8') if README.is_file() else '',
    long_description_content_type='text/markdown',
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license=MANIFEST.findtext('license'),
    license_files=['LICENSE', 'NOTICE'],
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'models/cards/*', 'models/embedded/*']},
    install_requires=[
        # Completes the command line; pure Python without dependencies.
        'argcomplete>=2.0',
        'numba>=0.59',
        'numpy>=1.24',
        # 5 changed its type codes, which breaks cv_bridge.
        'opencv-python>=4.5,<5',
        'PyYAML>=5.4',
        'safetensors>=0.4',
        'torch>=2.4',
    ],
    extras_require=EXTRAS,
    # The nodes are started from lib/<name>, where ros2 run and launch look. Console scripts land
    # there only under colcon, so the nodes are plain files that work wherever they are installed.
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml', 'LICENSE', 'NOTICE']),
        *share_files('launch', 'config'),
        (
            f'lib/{NAME}',
            sorted(str(p.relative_to(HERE)) for p in (HERE / 'resource/executables').iterdir()),
        ),
    ],
    entry_points={'console_scripts': ['seg-perception = seg_perception.cli.main:main']},
    zip_safe=False,
)

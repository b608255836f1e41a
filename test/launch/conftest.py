"""Fixtures of the launch tests: the package as it is installed, made of the checkout's files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.register_assert_rewrite('ros_harness')

from ros_harness import ROOT, ros, ros_executor, spawn  # noqa: E402  (sets the environment first)

__all__ = ['ros', 'ros_executor', 'spawn']


@pytest.fixture(scope='session')
def install_prefix(tmp_path_factory) -> Path:
    """A prefix that holds the package as ``pip install`` and colcon lay it out."""
    prefix = tmp_path_factory.mktemp('prefix')
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'seg_perception').touch()
    share = prefix / 'share/seg_perception'
    share.mkdir()
    for name in ('launch', 'config'):
        shutil.copytree(ROOT / name, share / name)
    shutil.copy(ROOT / 'package.xml', share)
    shutil.copytree(ROOT / 'resource/executables', prefix / 'lib/seg_perception')
    return prefix


@pytest.fixture
def installed(install_prefix, monkeypatch) -> Path:
    """The same prefix, in front of all others in the environment."""
    path = os.pathsep.join([str(install_prefix), os.environ.get('AMENT_PREFIX_PATH', '')])
    monkeypatch.setenv('AMENT_PREFIX_PATH', path)
    return install_prefix

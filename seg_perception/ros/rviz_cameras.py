"""What RViz is started with to show the cameras of this robot, not those of its files."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CAMERA = '/camera'
"""The camera of the files for one camera; its images are on ``/camera/image_raw``."""


def image_topics(
    parameters: Mapping[str, Any], overrides: Mapping[str, object], namespace: str = ''
) -> dict[str, str]:
    """The image topic of each camera that a node is told of.

    Args:
        parameters: a parameter file's tree; ``{}`` where there is none.
        overrides: parameters that have precedence, ``<camera>.image_topic`` and ``cameras``.
        namespace: of the node, which topics are relative to.

    Returns:
        Absolute topics by the names of the cameras, in their order.
    """
    known = _flat(parameters) | dict(overrides)
    cameras = known.get('cameras') or ['camera']
    return {
        str(camera): posixpath.join(
            '/', namespace, known.get(f'{camera}.image_topic') or f'{camera}/image_raw'
        )
        for camera in cameras
    }


def remappings(config: Path, image_topic: str) -> list[tuple[str, str]]:
    """What brings a camera to the displays of a file for one camera.

    Args:
        config: RViz's file.
        image_topic: the camera's, absolute.

    Returns:
        A topic of the file and the camera's own, for each that is shown.
    """
    beside = posixpath.dirname(image_topic).rstrip('/')
    shown = [_topic(display) for display in _displays(_load(config))]
    pairs = [
        (
            name,
            beside + name.removeprefix(CAMERA) if name != f'{CAMERA}/image_raw' else image_topic,
        )
        for name in shown
        if name.startswith(f'{CAMERA}/')
    ]
    return [(theirs, ours) for theirs, ours in pairs if theirs != ours]


def cameras_config(config: Path, topics: Mapping[str, str]) -> str:
    """A file for several cameras with a panel for each of these.

    Args:
        config: RViz's file for several cameras; its first image display is the pattern.
        topics: image topics by the names of the cameras.

    Returns:
        The new file's text.
    """
    tree = _load(config)
    displays = _displays(tree)
    pattern = next(d for d in displays if d['Class'].endswith('/Image'))
    names = {d['Name'] for d in displays if d['Class'] == pattern['Class']}
    panels = []
    for camera, topic in topics.items():
        panel = copy.deepcopy(pattern)
        panel['Name'] = camera.capitalize()
        panel['Topic']['Value'] = f'{posixpath.dirname(topic).rstrip("/")}/segmentation/overlay'
        panels.append(panel)
    tree['Visualization Manager']['Displays'] = [
        *(d for d in displays if d['Class'] != pattern['Class']),
        *panels,
    ]
    if names != {panel['Name'] for panel in panels}:
        # It places panels by their names; RViz finds places for those it does not know.
        del tree['Window Geometry']['QMainWindow State']
    return yaml.safe_dump(tree, sort_keys=False)


def _load(config: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(config.read_text(encoding='utf-8'))
    return tree


def _displays(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    displays: list[dict[str, Any]] = tree['Visualization Manager']['Displays']
    return displays


def _topic(display: Mapping[str, Any]) -> str:
    return str(display.get('Topic', {}).get('Value', ''))


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of all nodes of a parameter file, with dots between their parts."""
    found: dict[str, Any] = {}
    for name, below in tree.items():
        if name == 'ros__parameters':
            found |= _dotted(below)
        elif isinstance(below, dict):
            found |= _flat(below)
    return found


def _dotted(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, below in tree.items():
        found |= (
            _dotted(below, f'{prefix}{name}.')
            if isinstance(below, dict)
            else {f'{prefix}{name}': below}
        )
    return found

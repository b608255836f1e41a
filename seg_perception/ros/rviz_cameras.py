"""What RViz is started with to show the cameras of this robot, not those of its files."""

from __future__ import annotations

import copy
import posixpath
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CAMERA = '/camera'
"""The camera of the files for one camera; its images are on ``/camera/image_raw``."""
NUM_PANELS_A_ROW = 4
LAYOUT_SIZE_WH = (1440, 880)
"""Of the window that panels are laid out in, in pixels; it is stretched to the real one."""


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
    geometry = tree['Window Geometry']
    shipped = {d['Name'] for d in displays if d['Class'] == pattern['Class']}
    names = [panel['Name'] for panel in panels]
    if set(names) != shipped:
        geometry = {key: value for key, value in geometry.items() if key not in shipped}
        geometry |= {name: {'collapsed': False} for name in names}
        geometry['QMainWindow State'] = _dock_layout(names).hex()
        tree['Window Geometry'] = geometry
    return yaml.safe_dump(tree, sort_keys=False)


def _dock_layout(names: Sequence[str]) -> bytes:
    """What places panels in rows above the view of space, with the displays' list beside that.

    Source of the format: ``QMainWindow::saveState`` of Qt 5, as RViz writes it into its files.

    Args:
        names: of the panels, from left to right and from above.
    """
    num_rows = -(-len(names) // NUM_PANELS_A_ROW)
    num_columns = -(-len(names) // num_rows)
    panels_height = LAYOUT_SIZE_WH[1] * num_rows // (num_rows + 1)
    rows = b''
    for first in range(0, len(names), num_columns):
        row = names[first : first + num_columns]
        rows += b'\xfc' + _extent(panels_height // num_rows) + b'\xfc\x01'
        rows += struct.pack('>i', len(row))
        rows += b''.join(_dock(name, LAYOUT_SIZE_WH[0] // len(row)) for name in row)
    list_wh = LAYOUT_SIZE_WH[0] // 4, LAYOUT_SIZE_WH[1] - panels_height
    left, above = 0, 2
    return b''.join(
        (
            struct.pack('>iibi', 0xFF, 0, -3, 2),
            struct.pack('>3i', left, *list_wh) + b'\xfc\x02' + struct.pack('>i', 1),
            _dock('Displays', list_wh[1]),
            struct.pack('>3i', above, LAYOUT_SIZE_WH[0], panels_height) + b'\xfc\x02',
            struct.pack('>i', num_rows) + rows,
            struct.pack('>2i', LAYOUT_SIZE_WH[0] - list_wh[0], list_wh[1]),
            struct.pack('>4i', 4, 4, 8, 8),  # the areas that the corners belong to
            b'\xfc' + struct.pack('>3i', 1, above, 1),  # one line of tool bars
            _text('Tools') + b'\x01' + struct.pack('>4i', 0, -1, 0, 0),
        )
    )


def _dock(name: str, size_px: int) -> bytes:
    return b'\xfb' + _text(name) + b'\x01' + _extent(size_px)


def _extent(size_px: int) -> bytes:
    """Where something begins, its size, the least and the largest size."""
    return struct.pack('>4i', 0, size_px, 16, 0xFFFFFF)


def _text(text: str) -> bytes:
    encoded = text.encode('utf-16-be')
    return struct.pack('>i', len(encoded)) + encoded


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

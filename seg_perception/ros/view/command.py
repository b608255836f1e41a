"""Runs the viewer in this process, as the command line does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from seg_perception.errors import SegPerceptionError
from seg_perception.ros.environment import require_ros
from seg_perception.ros.process import catch_signals, run_node
from seg_perception.ros.view.rerun_sdk import load_rerun


def view(parameters: Mapping[str, Any]) -> NoReturn:
    """Runs until it is interrupted, and ends the process.

    Args:
        parameters: values of `ViewOptions`, and of rclpy's own parameters, by name.

    Raises:
        MissingExtraError: there is no ROS 2, or no rerun-sdk.
    """
    require_ros()
    load_rerun()
    catch_signals()
    from seg_perception.ros.view.node import ViewNode

    def make_node() -> ViewNode:
        try:
            return ViewNode()
        except SegPerceptionError as error:
            if parameters.get('prints_json'):
                document = {'error': {'kind': type(error).__name__, 'message': str(error)}}
                sys.stdout.write(json.dumps(document, indent=2) + '\n')
            raise

    arguments = ['--ros-args']
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={json.dumps(value)}']  # JSON is YAML
    run_node(make_node, arguments)

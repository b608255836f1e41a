"""Where pictures come from when no camera is there: photographs, videos, webcams and bags.

Knows nothing of ROS; ``open_source`` is the entry. Adding a kind of source is one new file and
one line in the table of ``opening.py``.
"""

from __future__ import annotations

from seg_perception.sources.opening import open_source
from seg_perception.sources.source import FrameSource, SourceFrame

__all__ = ['FrameSource', 'SourceFrame', 'open_source']

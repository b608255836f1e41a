"""The modes of a report, in its order, with their names for people."""

from __future__ import annotations

MODES = {
    'bare': 'forward alone',
    'segmenter': 'Segmenter',
    'node': 'node',
    'plain': 'plain node',
}

"""The parts of the documentation that are made from the code, and where they stand.

``python scripts/generated_parts.py`` writes them into the pages; a test fails where a page says
something else. A part stands between two comments, which readers do not see::

    <!-- generated: parameters of segmentation_node -->
    ...
    <!-- end of generated -->
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from seg_perception.models import DEFAULT_MODEL, list_models, resolve
from seg_perception.models.catalog import FOLDERS_VARIABLE
from seg_perception.ros import params_text
from seg_perception.zoo.listing import human_size

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(
    r'(?P<begin><!-- generated: (?P<name>[^>]+?) -->\n)(?P<text>.*?)'
    r'(?P<end>\n<!-- end of generated -->)',
    re.DOTALL,
)

FIGURES = ROOT / 'benchmarks' / '2026-11-27-models' / 'figures.json'
"""What was measured of the catalog's models, and how."""


def catalog_table() -> str:
    """The models of the package: from their cards, and from what was measured of them."""
    os.environ.pop(FOLDERS_VARIABLE, None)
    measured = json.loads(FIGURES.read_text(encoding='utf-8'))['models']
    lines = [
        '| model | classes | input | weights | accuracy | CPU ms | licence |',
        '|---|---|---|---|---|---|---|',
    ]
    for name in list_models():
        card = resolve(name)
        figures = measured.get(name, {})
        published = card.measurements.get('published', {}).get('coco_val2017_voc_labels_miou')
        accuracy = {
            'photographs': figures.get('photos_miou'),
            'streets': figures.get('camvid7_miou'),
            'COCO': published,
        }
        height, width = card.input.size_hw
        size = human_size(card.weights.size_bytes) if card.weights.size_bytes else 'download'
        size += '' if '://' in card.weights.uri else ', not downloaded'
        cells = (
            f'`{name}`' + (' (default)' if name == DEFAULT_MODEL else ''),
            len(card.classes.names),
            f'{width}x{height}',
            size,
            ', '.join(f'{kind} {miou}' for kind, miou in accuracy.items() if miou),
            figures.get('cpu_ms', ''),
            card.licence,
        )
        lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines) + '\n'


PARTS: Mapping[str, Callable[[], str]] = {
    'models of the catalog': catalog_table,
    **{
        f'parameters of {node}': partial(params_text.to_markdown, node)
        for node in params_text.NODE_NAMES
    },
}


def pages() -> list[Path]:
    """The pages that may hold generated parts."""
    return sorted((ROOT / 'docs').rglob('*.md'))


def renewed(text: str) -> str:
    """A page with its generated parts made anew.

    Raises:
        KeyError: it names a part that nobody makes.
    """
    return PART.sub(lambda part: f'{part["begin"]}\n{PARTS[part["name"]]()}{part["end"]}', text)


def main() -> int:
    """Writes what has changed."""
    for page in pages():
        text = page.read_text(encoding='utf-8')
        if (new := renewed(text)) != text:
            page.write_text(new, encoding='utf-8')
            print(f'wrote {page.relative_to(ROOT)}', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())

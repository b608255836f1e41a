"""The parts of the documentation that are made from the code, and where they stand.

``python scripts/generated_parts.py`` writes them into the pages; a test fails where a page says
something else. A part stands between two comments, which readers do not see::

    <!-- generated: parameters of segmentation_node -->
    ...
    <!-- end of generated -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from seg_perception.ros import params_text

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(
    r'(?P<begin><!-- generated: (?P<name>[^>]+?) -->\n)(?P<text>.*?)'
    r'(?P<end>\n<!-- end of generated -->)',
    re.DOTALL,
)

PARTS: Mapping[str, Callable[[], str]] = {
    f'parameters of {node}': partial(params_text.to_markdown, node)
    for node in params_text.NODE_NAMES
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

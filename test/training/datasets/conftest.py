"""Small datasets of real pixels with masks that are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import astronaut

HEIGHT, WIDTH = 24, 32


class Files:
    """Writes files below a folder. Pictures are 24 rows by 32 columns unless asked otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def picture(number: int = 0, height: int = HEIGHT, width: int = WIDTH):
        """Another part of the photograph for every number, RGB."""
        return np.ascontiguousarray(np.roll(astronaut(height, width), 5 * number, axis=1))

    @staticmethod
    def quarters(a: int, b: int, c: int, d: int, dtype=np.uint8):
        """Top left, top right, bottom left and bottom right of a mask."""
        block = np.ones((HEIGHT // 2, WIDTH // 2), dtype)
        return np.kron(np.array([[a, b], [c, d]], dtype), block)

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, name: str, rgb=None) -> Path:
        rgb = self.picture() if rgb is None else rgb
        path = self.path(name)
        assert cv2.imwrite(str(path), rgb[..., ::-1])
        return path

    def mask(self, name: str, values) -> Path:
        path = self.path(name)
        assert cv2.imwrite(str(path), values)
        return path

    def text(self, name: str, *lines: str) -> Path:
        path = self.path(name)
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        return path

    def json(self, name: str, document) -> Path:
        path = self.path(name)
        path.write_text(json.dumps(document), encoding='utf-8')
        return path

    def labelme(self, stem: str, *shapes, **fields) -> Path:
        """A photograph with its LabelMe file; shapes are (label, kind, points[, further])."""
        if 'imagePath' not in fields:
            self.image(f'{stem}.png', self.picture(len(list(self.root.glob('*.png')))))
        document = {
            'version': '5.4.1',
            'flags': {},
            'shapes': [
                {'label': s[0], 'shape_type': s[1], 'points': s[2], 'group_id': None, 'flags': {}}
                | (s[3] if len(s) > 3 else {})
                for s in shapes
            ],
            'imagePath': f'{stem}.png',
            'imageData': None,
            'imageHeight': HEIGHT,
            'imageWidth': WIDTH,
        }
        return self.json(f'{stem}.json', document | fields)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)

"""A small dataset on the disk: a real photograph with coloured shapes, and index masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import photographs
import yaml

NAMES = ('background', 'disc', 'box')
IGNORE_ID = 255


def draw_scene(seed: int, height: int = 72, width: int = 96):
    """Image (Y, X, 3) and labels (Y, X): shapes in colours of their own on the astronaut."""
    rng = np.random.default_rng(seed)
    image = photographs.astronaut(2 * height, 2 * width)
    top, left = rng.integers(0, height), rng.integers(0, width)
    image = np.ascontiguousarray(image[top : top + height, left : left + width])
    labels = np.zeros((height, width), np.uint8)
    for class_id, color in ((1, (40, 220, 60)), (2, (30, 60, 240))):
        for _ in range(2):
            y, x = int(rng.integers(12, height - 12)), int(rng.integers(12, width - 12))
            size = int(rng.integers(7, 12))
            shade = tuple(
                int(c) for c in np.clip(np.array(color) + rng.integers(-25, 25, 3), 0, 255)
            )
            if class_id == 1:
                cv2.circle(image, (x, y), size, shade, -1)
                cv2.circle(labels, (x, y), size, class_id, -1)
            else:
                cv2.rectangle(image, (x - size, y - size), (x + size, y + size), shade, -1)
                cv2.rectangle(labels, (x - size, y - size), (x + size, y + size), class_id, -1)
    labels[:2] = IGNORE_ID
    return image, labels


def write_dataset(root: Path, num_train: int = 8, num_val: int = 4) -> Path:
    """Writes image and mask folders for both splits; returns ``root``."""
    for split, seeds in (('train', range(num_train)), ('val', range(100, 100 + num_val))):
        for kind in ('images', 'masks'):
            (root / split / kind).mkdir(parents=True)
        for seed in seeds:
            image, labels = draw_scene(seed)
            cv2.imwrite(str(root / split / 'images' / f'{seed}.png'), image[..., ::-1])
            cv2.imwrite(str(root / split / 'masks' / f'{seed}.png'), labels)
    return root


def config_document(root: Path) -> dict:
    """A configuration that learns the scenes in seconds."""
    return {
        'name': 'scenes',
        'summary': 'discs and boxes',
        'model': {
            'architecture': 'unet',
            'architecture_options': {'base_channels': 8, 'num_stages': 2, 'dropout': 0.1},
        },
        'input': {'size_hw': [72, 96], 'multiple_of': 8},
        'data': {
            'layout': 'folders',
            'root': str(root),
            'images': '{split}/images',
            'masks': '{split}/masks',
            'classes': list(NAMES),
            'void_ids': [IGNORE_ID],
            'train': {'split': 'train'},
            'val': {'split': 'val'},
        },
        'augmentation': {'scale': [0.9, 1.1], 'crop_hw': [64, 64], 'brightness': 0.05},
        'loss': {'cross_entropy': {'class_weights': 'median_frequency'}, 'dice': 0.5},
        'optimizer': {'name': 'adamw', 'lr': 0.01},
        'schedule': {'name': 'poly'},
        'training': {'epochs': 30, 'batch_size': 4, 'validate_every': 10, 'num_threads': 1},
    }


def write_config(path: Path, root: Path, **sections) -> Path:
    """Writes the configuration, sections updated, as YAML."""
    document = config_document(root)
    for name, values in sections.items():
        document[name] = {**document[name], **values} if isinstance(values, dict) else values
    path.write_text(yaml.safe_dump(document), encoding='utf-8')
    return path

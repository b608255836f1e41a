from __future__ import annotations

import json
import re

import cv2
import pytest

pytest.importorskip('kornia', reason='kornia is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')

from seg_perception.pipeline import Segmenter
from seg_perception.training.config import load_config
from seg_perception.training.datasets import dataset_configs, open_dataset
from seg_perception.training.evaluation import evaluate
from seg_perception.training.report import write_report
from seg_perception.training.run_log import LOG_FILE, read_log


def test_report_has_all_it_names(finished_run, tmp_path):
    config_path, result = finished_run
    dataset = open_dataset(dataset_configs(load_config(config_path).document)['val'])
    with Segmenter(result.run_dir, device='cpu') as segmenter:
        evaluation = evaluate(segmenter, dataset, name='scenes val')
        log = read_log(result.run_dir / LOG_FILE)
        path = write_report(evaluation, segmenter, dataset, tmp_path / 'report', log=log)
    text = path.read_text(encoding='utf-8')
    pictures = re.findall(r'!\[.*\]\((.*)\)', text)
    assert pictures == ['curves.png', 'class_iou.png', 'confusion.png', 'best.png', 'worst.png']
    for name in pictures:
        picture = cv2.imread(str(path.parent / name))
        assert picture is not None
        # Something is drawn, and on white.
        assert picture.std() > 10
        assert (picture[0, 0] == 255).all()
    figures = json.loads((path.parent / 'metrics.json').read_text(encoding='utf-8'))
    assert figures['mean_iou'] == pytest.approx(result.best_mean_iou)
    assert f'| mean IoU | {figures["mean_iou"]:.4f} |' in text
    assert f'| disc | {figures["class_iou"]["disc"]:.4f} |' in text
    shares = [float(share) for share in re.findall(r'\| ([\d.]+) % \|', text)]
    assert sum(shares) == pytest.approx(100.0, abs=0.02)

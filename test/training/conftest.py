"""What several tests of training share: a dataset and one finished run."""

from __future__ import annotations

import pytest


@pytest.fixture(scope='session')
def scene_root(tmp_path_factory):
    import scenes

    return scenes.write_dataset(tmp_path_factory.mktemp('scenes') / 'data')


@pytest.fixture(scope='session')
def finished_run(scene_root, tmp_path_factory):
    """Configuration, folder and result of a run that has learned the scenes."""
    import scenes
    import torch

    pytest.importorskip('kornia', reason='kornia is not installed')
    from seg_perception.training.config import load_config
    from seg_perception.training.trainer import train

    folder = tmp_path_factory.mktemp('run')
    config_path = scenes.write_config(folder / 'config.yaml', scene_root)
    threads = torch.get_num_threads()
    result = train(load_config(config_path), folder / 'run', device='cpu')
    torch.set_num_threads(threads)
    return config_path, result

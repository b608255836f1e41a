"""Images that become messages where they lie."""

from __future__ import annotations

import gc

import numpy as np
import torch

from seg_perception import image_memory
from seg_perception.image_memory import HEADROOM, empty_image, memory_of


def test_is_found_from_any_view_of_the_whole_image():
    image = empty_image((4, 6), np.uint16)
    image[:] = np.arange(24).reshape(4, 6)
    through_torch = torch.from_numpy(image)[None][0].numpy()
    del image
    memory = memory_of(through_torch)
    assert memory is not None
    assert memory.nbytes == HEADROOM + 48
    np.testing.assert_array_equal(memory[HEADROOM:].view(np.uint16), np.arange(24))


def test_other_arrays_have_none():
    image = empty_image((4, 6), np.uint8)
    for other in (image[:2], image[:, :3], image.T, image[1:], image.copy(), np.zeros((4, 6))):
        assert memory_of(other) is None


def test_is_forgotten_with_the_image():
    image = empty_image((4, 6), np.uint8)
    address = image.ctypes.data
    view = torch.from_numpy(image)
    del image
    assert address in image_memory._memory_at
    del view
    gc.collect()
    assert address not in image_memory._memory_at

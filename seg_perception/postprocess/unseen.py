"""What the model did not see gets no label: its input may show only a part of the image.

B batch, Y/X output pixels.
"""

from __future__ import annotations

import torch

from seg_perception.imaging.resize_plan import ResizeGeometry


def hide_unseen(images_BYX: torch.Tensor, geometry: ResizeGeometry, value: int) -> torch.Tensor:
    """Sets pixels to ``value`` whose centres are not in the model's input; changes its argument.

    Args:
        images_BYX: covering the same view as the source image, or (Y, X).
        geometry: how the source image was laid into the model's input.
        value: what they become.

    Returns:
        The argument.
    """
    rows, columns = geometry.seen_in((images_BYX.shape[-2], images_BYX.shape[-1]))
    for outside in (
        (..., slice(0, rows.start), slice(None)),
        (..., slice(rows.stop, None), slice(None)),
        (..., slice(0, columns.start)),
        (..., slice(columns.stop, None)),
    ):
        images_BYX[outside] = value
    return images_BYX

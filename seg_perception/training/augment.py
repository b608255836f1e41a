"""Training images from dataset images: one warp for image and labels, then colour.

Scale, rotation, mirroring and cropping are one affine map, so that image and labels are sampled
once and cannot drift apart; kornia does the warp and the colours. Everything random comes from a
generator of ``(seed, epoch, index)``: the same sample is the same in whatever process, order or
resumed run it is made.

Y/X source pixels, H/W crop.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.errors import MissingExtraError
from seg_perception.imaging.resize_plan import plan_resize
from seg_perception.models.input_spec import InputSpec
from seg_perception.structures import U8, Labels
from seg_perception.training.config import AugmentationConfig


class Augmenter:
    """Makes a network's training inputs.

    The image first gets the size it would have in the network's input on the robot
    (``plan_resize``), times a random factor; a window of ``crop_hw`` of it is taken, what lies
    outside the image being the mean colour and not counted. Downscaling is bilinear without
    antialiasing, as the robot's preprocessing is.

    Args:
        config: what is varied.
        input_spec: what the network is fed on the robot.
        ignore_id: label of pixels that do not count.
        seed: of all randomness.

    Raises:
        MissingExtraError: kornia is not installed.
    """

    def __init__(
        self, config: AugmentationConfig, input_spec: InputSpec, ignore_id: int, seed: int
    ) -> None:
        try:
            import kornia  # noqa: F401
        except ImportError as error:
            raise MissingExtraError('kornia', 'train', 'augment training images') from error
        self._config = config
        self._spec = input_spec
        self._ignore_id = ignore_id
        self._seed = seed
        self._crop_hw = config.crop_hw or input_spec.size_hw
        self._mean = torch.tensor(input_spec.mean_rgb).view(3, 1, 1)
        self._std = torch.tensor(input_spec.std_rgb).view(3, 1, 1)

    def __call__(
        self, image_YX3: U8, labels_YX: Labels, *, epoch: int, index: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Varies one sample.

        Args:
            image_YX3: RGB.
            labels_YX: class ids or the ignored id, same size.
            epoch: pass over the data.
            index: of the sample.

        Returns:
            The input (3, H, W) float32, normalised, and the labels (H, W) int64.
        """
        from kornia.geometry.transform import warp_affine

        rng = np.random.default_rng((self._seed, epoch, index))
        matrix = self.draw_matrix((image_YX3.shape[0], image_YX3.shape[1]), rng)
        matrix_123 = torch.from_numpy(matrix[:2].astype(np.float32))[None]
        image = torch.from_numpy(np.ascontiguousarray(image_YX3.transpose(2, 0, 1))).float()
        # Outside of what is warped there are zeros: the mean colour, and label + 1 of nothing.
        warped = warp_affine(
            (image - self._mean)[None],
            matrix_123,
            self._crop_hw,
            mode='bilinear',
            padding_mode='zeros',
            align_corners=True,
        )[0]
        shifted = torch.from_numpy(labels_YX.astype(np.float32) + 1.0)[None, None]
        shifted = warp_affine(
            shifted,
            matrix_123,
            self._crop_hw,
            mode='nearest',
            padding_mode='zeros',
            align_corners=True,
        )[0, 0]
        labels_HW = shifted.round().long() - 1
        is_outside_HW = labels_HW < 0
        labels_HW[is_outside_HW] = self._ignore_id
        x_3HW = (self._vary_color(warped + self._mean, rng) - self._mean) / self._std
        x_3HW[:, is_outside_HW] = 0.0
        if self._spec.channel_order == 'bgr':
            x_3HW = x_3HW.flip(0)
        return x_3HW.contiguous(), labels_HW

    def draw_matrix(
        self, source_hw: tuple[int, int], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Draws where source pixels go: (3, 3), on (x, y, 1) with whole numbers at centres."""
        config, (crop_h, crop_w) = self._config, self._crop_hw
        spec = self._spec
        plan = plan_resize(source_hw, spec.size_hw, spec.resize, spec.multiple_of)
        factor = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
        angle = math.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
        is_flipped = rng.random() < config.flip
        scale_y, scale_x = (scale * factor for scale in plan.scale_yx)
        size_h, size_w = source_hw[0] * scale_y, source_hw[1] * scale_x
        # Where the window lies: anywhere inside a larger image, a smaller one anywhere inside it.
        left, top = rng.uniform() * (size_w - crop_w), rng.uniform() * (size_h - crop_h)
        to_edges, to_centres = _shift(0.5, 0.5), _shift(-0.5, -0.5)
        scale = np.diag([scale_x, scale_y, 1.0])
        cos, sin = math.cos(angle), math.sin(angle)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        middle_x, middle_y = left + crop_w / 2, top + crop_h / 2
        turn = _shift(middle_x, middle_y) @ rotation @ _shift(-middle_x, -middle_y)
        matrix = _shift(-left, -top) @ turn @ scale @ to_edges
        if is_flipped:
            matrix = np.array([[-1.0, 0, crop_w], [0, 1.0, 0], [0, 0, 1.0]]) @ matrix
        return np.asarray(to_centres @ matrix, np.float64)

    def _vary_color(self, image_3HW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Brightness, contrast, saturation and hue of pixels 0..255, in this order."""
        from kornia import enhance

        config = self._config
        # Drawn whether used or not: switching one off leaves the others as they were.
        b, c, s, h = rng.uniform(-1.0, 1.0, 4)
        if not (config.brightness or config.contrast or config.saturation or config.hue_deg):
            return image_3HW
        image = (image_3HW / 255.0).clamp(0.0, 1.0)
        if config.brightness:
            image = enhance.adjust_brightness(image, float(b * config.brightness))
        if config.contrast:
            image = enhance.adjust_contrast_with_mean_subtraction(
                image, float(1.0 + c * config.contrast)
            )
        if config.saturation:
            image = enhance.adjust_saturation_with_gray_subtraction(
                image, float(1.0 + s * config.saturation)
            )
        if config.hue_deg:
            image = enhance.adjust_hue(image, math.radians(h * config.hue_deg))
        return image.clamp(0.0, 1.0) * 255.0


def _shift(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])

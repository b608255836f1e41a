"""Every error this package raises on purpose.

    SegPerceptionError
    ├── InputError                  an image or message cannot be used
    │   ├── EncodingError           its encoding or format is not one we can decode
    │   ├── ImageLayoutError        its size, step and byte count contradict each other
    │   ├── ImageTooLargeError      it claims more pixels than the configured bound
    │   ├── CompressedImageError    its compressed bytes are truncated or corrupt
    │   └── PromptError             a prompt is incomplete, or points outside of its image
    ├── ModelError                  a model cannot be found, loaded or run
    │   ├── ModelNotFoundError      no catalog entry or file has that name
    │   ├── ModelCardError          a model card is incomplete or contradicts itself
    │   ├── WeightsError            weights are missing, altered, unsafe or do not fit
    │   ├── InferenceError          the loaded model failed on an input
    │   │   ├── DeviceMemoryError   the device has not enough memory for it
    │   │   ├── DeviceLostError     the device failed, for this process at least
    │   │   └── ServerError         the model's server gave no answer that is of use
    │   └── ModelLostError          the model cannot be brought back to work
    ├── DeviceError                 the requested compute device or precision is not there
    ├── GeometryError               intrinsics, depth or sizes do not belong together
    ├── ConfigurationError          a parameter or option has a value that cannot work
    ├── OutputError                 a file of results cannot be written
    └── MissingLibraryError         an optional library is needed and not installed
        └── MissingExtraError       one that an extra of this package installs

Messages say what was expected, what was found and what to do about it. The core raises and never
logs; the ROS layer catches, counts and logs.
"""

from __future__ import annotations


class SegPerceptionError(Exception):
    """Base of all errors raised by this package."""


class InputError(SegPerceptionError):
    """An image or message cannot be used."""


class EncodingError(InputError):
    """The encoding or compressed format is not one this package can decode."""


class ImageLayoutError(InputError):
    """Height, width, step and byte count of an image contradict each other."""


class ImageTooLargeError(InputError):
    """An image claims more pixels than the configured bound."""


class CompressedImageError(InputError):
    """A compressed image is truncated, corrupt or not what its format says."""


class PromptError(InputError):
    """A prompt is incomplete, contradicts itself or points outside of its image."""


class ModelError(SegPerceptionError):
    """A model cannot be found, loaded or run."""


class ModelNotFoundError(ModelError):
    """No catalog entry or file has the given name."""


class ModelCardError(ModelError):
    """A model card is incomplete or contradicts itself or its weights."""


class WeightsError(ModelError):
    """Weights are missing, altered, unsafe to load or do not fit the architecture."""


class InferenceError(ModelError):
    """A loaded model failed on an input."""


class DeviceMemoryError(InferenceError):
    """The device has not enough memory for what it was asked to do."""


class DeviceLostError(InferenceError):
    """The device failed in a way after which this process cannot use it any more."""


class ServerError(InferenceError):
    """The server that runs a model does not answer, not in time, or refuses."""


class ModelLostError(ModelError):
    """A model failed, and what was done to bring it back did not help.

    Args:
        message: what failed and what was tried.
        needs_new_process: whether nothing but a new process can help.
    """

    def __init__(self, message: str, *, needs_new_process: bool = False) -> None:
        super().__init__(message)
        self.needs_new_process = needs_new_process


class DeviceError(SegPerceptionError):
    """The requested compute device or precision is not available."""


class GeometryError(SegPerceptionError):
    """Intrinsics, depth or image sizes do not belong together."""


class ConfigurationError(SegPerceptionError):
    """A parameter or option has a value that cannot work."""


class OutputError(SegPerceptionError):
    """A file of results cannot be written."""


class MissingLibraryError(SegPerceptionError, ImportError):
    """An optional library is needed and not installed.

    Args:
        library: its name on PyPI, with what is asked of its version, e.g. ``'timm'``.
        purpose: what it is needed for, completing "… is needed to ‹purpose›".
        remedy: the command that installs it.
    """

    def __init__(self, library: str, purpose: str, remedy: str) -> None:
        super().__init__(f'{library} is needed to {purpose} and is not installed: {remedy}')
        self.library = library


class MissingExtraError(MissingLibraryError):
    """The same of a library that an extra of this package installs.

    Args:
        library: its name on PyPI, e.g. ``'onnxruntime'``.
        extra: the extra, e.g. ``'onnx'``.
        purpose: what it is needed for, completing "… is needed to ‹purpose›".
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(library, purpose, f"pip install 'seg_perception[{extra}]'")
        self.extra = extra

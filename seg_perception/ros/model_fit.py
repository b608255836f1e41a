"""Whether a model and the parameters go together, and what the node offers with both."""

from __future__ import annotations

from seg_perception.backends.worded import word_classes
from seg_perception.errors import ConfigurationError
from seg_perception.models import ModelCard
from seg_perception.ros.frame_result import Output
from seg_perception.ros.grasp_outputs import is_class_name
from seg_perception.ros.outputs import output_table
from seg_perception.ros.params import Parameters
from seg_perception.structures import ClassTable

_CLASS_PARAMETERS = (
    'mask_classes',
    'object_classes',
    'point_classes',
    'drivable_classes',
    'danger_classes',
)


def check_fits(card: ModelCard, parameters: Parameters) -> None:
    """Refuses parameters that the model cannot serve.

    Raises:
        ConfigurationError: it lacks classes that they name, or has no scores for the threshold.
    """
    named = {name: getattr(parameters, name) for name in _CLASS_PARAMETERS}
    if is_class_name(parameters.grasp_target):
        named['grasp_target'] = (parameters.grasp_target,)
    kind = card.output.kind
    if words := [word for word in parameters.prompts if word]:
        if kind != 'words':
            raise ConfigurationError(
                f"prompts: expected [''], because {card.name} does not take words, got "
                f'{", ".join(words)}'
            )
        word_classes(words)
    if kind == 'prompts' and any((*parameters.drivable_classes, *parameters.danger_classes)):
        raise ConfigurationError(
            f"drivable_classes, danger_classes: expected [''], because {card.name} segments what "
            f'prompts point at and nothing else'
        )
    known = {'', '*', *_topic_classes(card, parameters).names}
    lacking = {
        parameter: ', '.join(f"'{name}'" for name in names if name not in known)
        for parameter, names in named.items()
    }
    if any(lacking.values()):
        what = '; '.join(f'{parameter}: {names}' for parameter, names in lacking.items() if names)
        raise ConfigurationError(
            f'{card.name} lacks classes that the parameters name ({what}); it has: '
            f'{", ".join(model_classes(card, parameters).names)}'
        )
    if parameters.confidence_threshold > 0.0 and not card.output.has_scores:
        raise ConfigurationError(
            f'confidence_threshold: expected 0, because {card.name} gives labels without scores, '
            f'got {parameters.confidence_threshold:g}'
        )


def model_classes(card: ModelCard, parameters: Parameters) -> ClassTable:
    """The classes of a model: its card's, or the words that it looks for."""
    if card.output.kind == 'words':
        return word_classes([word for word in parameters.prompts if word])
    return card.classes


def output_table_of(card: ModelCard, parameters: Parameters, camera: str) -> list[Output]:
    """What to publish of each frame of a camera."""
    return output_table(
        _topic_classes(card, parameters),
        parameters,
        parameters.camera[camera],
        has_confidence=card.output.has_scores,
    )


def _topic_classes(card: ModelCard, parameters: Parameters) -> ClassTable:
    """The classes that can have topics of their own.

    Of models that take prompts these are the ones that the parameters name: what names the prompts
    bring cannot be known before.
    """
    classes = model_classes(card, parameters)
    if card.output.kind != 'prompts':
        return classes
    named = [name for parameter in _CLASS_PARAMETERS for name in getattr(parameters, parameter)]
    if is_class_name(parameters.grasp_target):
        named.append(parameters.grasp_target)
    names = dict.fromkeys([*classes.names, *named])
    return ClassTable(tuple(name for name in names if name not in ('', '*')))

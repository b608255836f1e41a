"""Models that a server runs, described by the card in their configuration there."""

from __future__ import annotations

import dataclasses

from seg_perception.errors import ModelCardError
from seg_perception.models.card import ModelCard, WeightsSource, parse_card
from seg_perception.models.graph_facts import GraphFacts
from seg_perception.models.model_server import (
    CARD_KEY,
    SCHEME,
    ServedFacts,
    ServedModel,
    ServerConnection,
)
from seg_perception.models.origins.source import ModelSource, after


def card_of(model: str) -> ModelCard:
    """Asks the server of ``triton:HOST:PORT/NAME@VERSION`` for the model's card.

    It is the text of the parameter `CARD_KEY` of the model's configuration, as Triton has it.

    Raises:
        ModelNotFoundError: the server has no such model.
        ServerError: it does not answer.
        ModelCardError: it has no card for it, or a wrong one; the message shows the card to write.
        MissingExtraError: tritonclient is not installed.
        ConfigurationError: certificates are missing.
    """
    served = ServedModel.parse(model)
    connection = ServerConnection(served)
    try:
        facts = connection.facts()
    finally:
        connection.close()
    weights = WeightsSource(served.uri)
    if not facts.card:
        raise ModelCardError(_card_to_write(served, facts))
    card = parse_card(facts.card, f'{served}: {CARD_KEY}')
    return dataclasses.replace(
        card,
        architecture=None,
        architecture_options={},
        weights=weights,
        source=card.source or served.uri,
    )


def _card_to_write(served: ServedModel, facts: ServedFacts) -> str:
    sides = facts.inputs[0].shape[-3:] if facts.inputs else ()
    height, width = (
        (sides[1:] if sides and sides[0] == 3 else sides[:2]) if sides else (None, None)
    )
    output = facts.outputs[0] if facts.outputs else None
    is_labels = output is not None and 'INT' in output.datatype
    num_classes = None if output is None or is_labels else output.shape[1:2]
    known = GraphFacts(
        input_hw=(height, width) if height and width else None,
        num_classes=num_classes[0] if num_classes else None,
        kind='labels' if is_labels else '',
    )
    return (
        f'{served}: expected a model card as the parameter {CARD_KEY} of its configuration '
        f'(config.pbtxt) at the server, found none; nothing there says {known.unknown}. Put one '
        f'there, or write it into a file, replacing each ???, and give that as model:\n\n'
        f'{known.template(served.name, served.uri, "triton")}'
    )


SOURCE = ModelSource(
    'server',
    f'{SCHEME}:HOST:PORT/NAME@VERSION (a model of a Triton or other KServe v2 server)',
    after(SCHEME),
    card_of,
)

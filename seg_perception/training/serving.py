"""A model as an entry of a Triton model repository, with the card that robots ask the server for.

    NAME/config.pbtxt        # how the server runs it, and the card
    NAME/1/model.onnx
    NAME/card.yaml           # makes the folder a model of its own: the same network, here

B batch, C classes, H/W network input.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from seg_perception.models.card import ModelCard
from seg_perception.models.card_writing import card_text, write_card
from seg_perception.models.model_server import CARD_KEY

CONFIG_FILE = 'config.pbtxt'
MODEL_FILE = Path('1') / 'model.onnx'

MAX_BATCH = 8
MAX_QUEUE_DELAY_US = 2000


def write_entry(folder: Path, card: ModelCard) -> ModelCard:
    """Makes an entry of a folder with an ONNX file and its card.

    Args:
        folder: as an ``onnx`` export leaves it; its name becomes the model's at the server.
        card: the one in it.

    Returns:
        The card in it from now on.
    """
    target = folder / MODEL_FILE
    target.parent.mkdir()
    (folder / card.weights.uri).rename(target)
    weights = dataclasses.replace(card.weights, uri=MODEL_FILE.as_posix())
    written = write_card(dataclasses.replace(card, weights=weights), target, 'onnx', folder)
    (folder / CONFIG_FILE).write_text(config_text(written), encoding='utf-8')
    return written


def config_text(card: ModelCard) -> str:
    """The server's configuration of a model that was exported with open batch and input size."""
    # strings of protobuf's text format are JSON's, as long as no letter is escaped by its number
    quoted_card = json.dumps(card_text(card), ensure_ascii=False)
    return f"""\
# {card.name}: an entry of a Triton model repository, written by seg-perception export.
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [ {{ name: "image" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {len(card.classes)}, -1, -1 ] }} ]
dynamic_batching {{
  # images of several robots that come within this time share a batch
  max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US}
  # what its robot does not wait for any more (server_timeout_s) is not computed
  default_queue_policy {{ timeout_action: REJECT allow_timeout_override: true }}
}}
# Robots read it: classes, and how images are prepared.
parameters [ {{ key: "{CARD_KEY}" value {{ string_value: {quoted_card} }} }} ]
"""

"""Prompts from messages: what counts, what is refused, and that prompts hold until replaced."""

from __future__ import annotations

import math

import pytest

pytest.importorskip('vision_msgs', reason='vision_msgs is not installed: run scripts/setup')

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from seg_perception.errors import ConfigurationError, PromptError
from seg_perception.messages.described import write_detections
from seg_perception.models import DEFAULT_MODEL, resolve
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.model_fit import check_fits
from seg_perception.ros.params import Parameters
from seg_perception.ros.prompts import PromptBook, detections_to_prompts
from seg_perception.structures import ClassTable, Frame, ObjectInstance, Objects, Prompt

pytestmark = pytest.mark.distro


def place(x, y, width=0.0, height=0.0, *, name=None, thing='', theta=0.0):
    box = BoundingBox2D(size_x=float(width), size_y=float(height))
    box.center.position.x, box.center.position.y = float(x), float(y)
    box.center.theta = theta
    results = []
    if name is not None:
        results.append(ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name)))
    return Detection2D(bbox=box, id=thing, results=results)


class Logger:
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


@pytest.fixture
def book():
    return PromptBook('front', ThrottledLog(Logger()))


def message(*places, frame_id=''):
    return Detection2DArray(header=Header(frame_id=frame_id), detections=list(places))


def frame(frame_id='cam', size_hw=(48, 64)):
    height, width = size_hw
    return Frame(bytes(height * width), height, width, 'mono8', width, frame_id=frame_id)


class TestReading:
    def test_a_box_and_a_point(self):
        prompts = detections_to_prompts([place(20, 10, 8, 4, name='cup'), place(3, 4)])
        assert prompts == (
            Prompt('cup', box_xyxy_px=(16.5, 8.5, 24.5, 12.5)),
            Prompt('object', on_xy_px=((3.0, 4.0),)),
        )

    def test_our_own_objects_are_prompts(self):
        item = ObjectInstance(7, 1, 0.9, (4, 5, 14, 25), 50, (9.0, 15.0))
        written = write_detections(
            Objects(None, (item,)), ClassTable(('background', 'cup')), 0, ''
        )
        found = deserialize_message(written.tobytes(), Detection2DArray)
        assert detections_to_prompts(found.detections) == (
            Prompt('cup', box_xyxy_px=(4.0, 5.0, 14.0, 25.0)),
        )

    def test_places_with_one_id_are_one_thing(self):
        prompts = detections_to_prompts(
            [
                place(20, 10, 8, 4, name='cup', thing='a'),
                place(21, 11, thing='a'),
                place(30, 30, name='background', thing='a'),
                place(5, 5, name='spoon', thing='b'),
                place(40, 40, name='background'),
            ]
        )
        assert prompts == (
            Prompt(
                'cup',
                box_xyxy_px=(16.5, 8.5, 24.5, 12.5),
                on_xy_px=((21.0, 11.0),),
                beside_xy_px=((30.0, 30.0), (40.0, 40.0)),
            ),
            Prompt('spoon', on_xy_px=((5.0, 5.0),), beside_xy_px=((40.0, 40.0),)),
        )

    def test_the_best_hypothesis_names_it(self):
        detection = place(5, 5)
        for name, score in (('mug', 0.2), ('cup', 0.7)):
            hypothesis = ObjectHypothesis(class_id=name, score=score)
            detection.results.append(ObjectHypothesisWithPose(hypothesis=hypothesis))
        assert detections_to_prompts([detection])[0].name == 'cup'

    @pytest.mark.parametrize(
        ('places', 'expected'),
        [
            ([place(math.nan, 5)], 'finite pixels'),
            ([place(5, 5, math.inf, 2)], 'finite pixels'),
            ([place(5, 5, math.nan, 2)], 'positive sizes, or both 0'),
            ([place(5, 5, -2, 2)], 'positive sizes, or both 0'),
            ([place(5, 5, 3, 0)], 'positive sizes, or both 0'),
            ([place(5, 5, 3, 3, theta=0.1)], 'theta 0'),
            ([place(5, 5, 3, 3, name='background')], 'expected a point for the class background'),
            ([place(5, 5, name='background')], 'got only points beside'),
            ([place(5, 5, name='background', thing='a')], 'id a: .*got neither'),
            (
                [place(5, 5, 3, 3, thing='a'), place(9, 9, 3, 3, thing='a')],
                'at most one box, got 2',
            ),
            (
                [place(5, 5, thing='a', name='x'), place(9, 9, thing='a', name='y')],
                'at most one name',
            ),
            ([place(5, 5, 3, 3)] * 65, 'at most 64 prompts'),
            ([place(5, 5, thing='a')] * 65, 'at most 64 points'),
            ([place(5, 5)] * 1025, 'at most 1024 detections'),
        ],
    )
    def test_what_is_refused(self, places, expected):
        with pytest.raises(PromptError, match=expected):
            detections_to_prompts(places)


class TestHolding:
    def test_prompts_hold_until_replaced(self, book):
        assert book.for_frame(frame()) == ()
        book.on_message(message(place(5, 5)))
        assert book.for_frame(frame()) == book.for_frame(frame()) != ()
        book.on_message(message(place(6, 6)))
        assert book.for_frame(frame())[0].on_xy_px == ((6.0, 6.0),)
        book.on_message(message())
        assert book.for_frame(frame()) == ()

    def test_a_bad_message_changes_nothing(self, book):
        book.on_message(message(place(5, 5, name='cup')))
        book.on_message(message(place(math.nan, 5)))
        assert book.for_frame(frame())[0].name == 'cup'
        told = book.snapshot()
        assert (told.received, told.refused) == (2, 1)
        assert 'finite' in told.last_refusal
        book.on_message(message(place(5, 5)))
        assert book.snapshot().last_refusal == ''

    def test_each_frame_id_has_its_own(self, book):
        book.on_message(message(place(1, 1, name='any')))
        book.on_message(message(place(2, 2, name='left'), frame_id='left'))
        assert book.for_frame(frame('left'))[0].name == 'left'
        assert book.for_frame(frame('right'))[0].name == 'any'
        book.on_message(message(frame_id='left'))
        assert book.for_frame(frame('left')) == ()
        assert book.snapshot().names == ('any',)
        book.on_message(message())
        assert book.for_frame(frame('right')) == ()

    def test_frame_ids_are_bounded(self, book):
        for i in range(100):
            book.on_message(message(place(1, 1), frame_id=f'f{i}'))
        assert len(book.snapshot().frame_ids) == 16
        assert book.for_frame(frame('f99'))

    def test_what_points_outside_is_refused_once(self, book):
        book.on_message(message(place(5, 5, name='in'), place(63.6, 5, name='out')))
        for _ in range(3):
            assert [prompt.name for prompt in book.for_frame(frame())] == ['in']
        told = book.snapshot()
        assert told.refused == 1
        assert 'within the image of 64x48 px' in told.last_refusal
        # in a larger image it is inside
        assert len(book.for_frame(frame(size_hw=(48, 128)))) == 2

    def test_what_was_replaced_meanwhile_is_refused_but_not_what_is_wrong_now(
        self, book, monkeypatch
    ):
        def check(prompt, _size_hw):
            monkeypatch.undo()
            book.on_message(message(place(6, 6, name='new')))
            raise PromptError('out of the image')

        book.on_message(message(place(5, 5, name='old')))
        monkeypatch.setattr(Prompt, 'check_within', check)
        assert book.for_frame(frame()) == ()
        told = book.snapshot()
        assert (told.names, told.refused, told.last_refusal) == (('new',), 1, '')


class TestParametersThatFit:
    def test_words_are_for_models_that_take_them(self):
        with pytest.raises(ConfigurationError, match='does not take words, got cup'):
            check_fits(resolve(DEFAULT_MODEL), Parameters(prompts=('cup',)))

    def test_names_of_prompts_are_not_known_before(self):
        card = resolve('mobile_sam')
        check_fits(card, Parameters(mask_classes=('glue',), grasp_target='glue'))
        with pytest.raises(ConfigurationError, match='segments what prompts point at and nothing'):
            check_fits(card, Parameters(drivable_classes=('road',)))

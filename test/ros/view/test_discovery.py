"""Which cameras are found from topics and from what nodes say."""

from __future__ import annotations

from seg_perception.ros.view.discovery import (
    COMPRESSED,
    IMAGE,
    OUTPUTS,
    find_cameras,
    namespace_of,
)
from seg_perception.ros.view.status import Report, to_markdown, wait_for


def topics(**by_name):
    return {name: frozenset(types) for name, types in by_name.items()}


def published(*names, **others):
    outputs = {f'/front/segmentation/{name}': {OUTPUTS[name]} for name in names}
    return topics(**outputs, **others)


def test_nodes_say_which_images_are_theirs():
    reported = {'/front/odd/compressed': 'eyes'}
    [camera] = find_cameras(published('labels', **{'/front/image_raw': {IMAGE}}), reported)
    assert (camera.name, camera.namespace) == ('eyes', '/front/segmentation')
    assert camera.image_topic == '/front/odd/compressed'
    assert camera.is_compressed
    assert not camera.has_images
    assert camera.outputs == {'labels'}


def test_without_a_word_the_image_beside_the_outputs_is_taken():
    beside = {
        '/front/depth/image_raw': {IMAGE},
        '/front/depth_registered': {IMAGE},
        '/front/image_raw/compressed': {COMPRESSED},
        '/front/image_raw': {IMAGE},
        '/front/aaa': {IMAGE},
        '/rear/image_raw': {IMAGE},
    }
    [camera] = find_cameras(published('labels', **beside), {})
    assert (camera.name, camera.image_topic) == ('front', '/front/image_raw')
    del beside['/front/image_raw']
    [camera] = find_cameras(published('labels', **beside), {})
    assert camera.image_topic == '/front/image_raw/compressed'
    assert find_cameras(published('labels'), {})[0].image_topic == ''


def test_a_topic_of_another_type_is_no_output():
    [camera] = find_cameras(
        published('labels', 'points', **{'/front/segmentation/objects': {IMAGE}}), {}
    )
    assert camera.outputs == {'labels', 'points'}
    assert (
        find_cameras(topics(**{'/front/segmentation/labels': {'std_msgs/msg/String'}}), {}) == []
    )


def test_cameras_of_one_name_are_told_apart_and_can_be_chosen():
    reported = {'/a/front/image_raw': 'front', '/b/front/image_raw': 'front', '/c/image': 'rear'}
    cameras = find_cameras({}, reported)
    assert [camera.name for camera in cameras] == ['a/front', 'b/front', 'rear']
    assert [c.name for c in find_cameras({}, reported, ['rear'])] == ['rear']
    assert [c.name for c in find_cameras({}, reported, ['/b/front'])] == ['b/front']
    assert len(find_cameras({}, reported, ['front'])) == 2
    assert find_cameras({}, reported, ['nobody']) == []
    assert namespace_of('/image_raw') == '/segmentation'


def test_what_is_missing_is_named():
    reported = {'/front/image_raw': 'front'}
    [gone] = find_cameras({}, reported)
    assert 'nobody publishes there now; its node says "down"' in wait_for(Report(gone, {}, 'down'))
    [blind] = find_cameras(published('labels'), reported)
    assert wait_for(Report(blind, {})).startswith('waits for /front/image_raw: nobody publishes')
    [camera] = find_cameras(published('labels', **{'/front/image_raw': {IMAGE}}), reported)
    assert 'labels: none came yet' in wait_for(Report(camera, {'image': 0.1}))
    assert 'labels: none for 12 s' in wait_for(Report(camera, {'image': 0.1, 'labels': 12.2}))
    assert 'image_raw: none for 9 s' in wait_for(Report(camera, {'image': 9.0, 'labels': 0.2}))
    fine = Report(camera, {'image': 0.1, 'labels': 0.1}, '8 Hz', {'received': 9, 'published': 8})
    assert wait_for(fine) == ''
    assert '8 of 9 published' in to_markdown([fine], ())
    assert 'waits for a segmentation node' in to_markdown([], ())

"""What the children's environment is made of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seg_perception.ros.environment import (
    DDS_PROFILE,
    find_share_file,
    node_environment,
    private_domain_id,
    profile_variables,
)

pytestmark = pytest.mark.distro


def test_share_files_are_found_in_the_first_prefix_that_has_them(tmp_path, monkeypatch):
    share = tmp_path / 'second' / 'share' / 'seg_perception'
    share.mkdir(parents=True)
    (share / 'some.file').touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "first"}:{tmp_path / "second"}')
    assert find_share_file(Path('some.file')) == share / 'some.file'
    assert find_share_file(Path('no.file')) is None


def test_defaults_fill_what_the_user_left_open():
    env = node_environment({})
    assert env['AMENT_PREFIX_PATH'] == sys.prefix
    assert 'ROS_DOMAIN_ID' not in env
    profile = find_share_file(DDS_PROFILE)
    assert profile is not None
    assert {env[variable] for variable in profile_variables({})} == {str(profile)}


def test_the_users_choices_stay_but_for_the_domain():
    mine = {
        'AMENT_PREFIX_PATH': '/opt/ros',
        'ROS_DOMAIN_ID': '5',
        **dict.fromkeys(profile_variables({}), '/my.xml'),
    }
    env = node_environment(mine, domain_id=150)
    assert env['ROS_DOMAIN_ID'] == '150'
    assert env['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert {name: env[name] for name in mine if name != 'ROS_DOMAIN_ID'} == {
        name: value for name, value in mine.items() if name != 'ROS_DOMAIN_ID'
    }


def test_the_profile_goes_by_the_name_the_distribution_reads():
    assert profile_variables({'ROS_DISTRO': 'jazzy'}) == ('FASTRTPS_DEFAULT_PROFILES_FILE',)
    assert profile_variables({'ROS_DISTRO': 'kilted'}) == ('FASTDDS_DEFAULT_PROFILES_FILE',)
    assert len(profile_variables({})) == 2


def test_private_domains_are_valid_and_not_the_common_ones():
    domains = {private_domain_id() for _ in range(200)}
    assert min(domains) >= 100
    assert max(domains) <= 232
    assert len(domains) > 20

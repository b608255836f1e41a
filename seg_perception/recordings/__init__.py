"""Whole recordings (rosbag2) in, whole recordings out, with what the live node would have said.

``recorded`` reads them, ``cameras`` finds what there is to segment, ``plan`` cuts the work into
slices, ``slicing`` does one of them, ``assembly`` puts a new recording together, and ``run``
has all of that done by several processes or machines. No ROS is needed; the rosbags library is.
"""

"""ROS messages as bytes (CDR), read and written where there need be no ROS."""

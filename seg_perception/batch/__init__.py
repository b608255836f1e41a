"""Files in, files out: photographs, folders, videos and webcams, without any ROS.

``inputs`` finds them, ``naming`` gives their results names, ``manifest`` keeps what is done.
"""

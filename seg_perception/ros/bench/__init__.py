"""The benchmark's processes: a camera, a sink, a plain node, and the rig that measures them."""

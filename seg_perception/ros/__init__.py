"""What talks ROS: nodes, their parameters, messages and quality of service.

The only folder that imports rclpy and message packages. Importing this module alone imports
neither.
"""

"""Shows what a segmentation node sees on a web page, live, and keeps it in a file."""

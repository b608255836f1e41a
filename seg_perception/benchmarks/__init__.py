"""What ``seg-perception bench`` measures, computes and reports; its processes are in ros/bench."""

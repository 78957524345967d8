"""Devices beside the processor, from /proc and /sys."""

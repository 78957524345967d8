"""What the installed libraries can compute on, how fast, and how to use it."""

"""What is here: the machine's cores and memory, and the limits this process runs under."""

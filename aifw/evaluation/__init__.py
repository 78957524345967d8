"""What is measured, how sure we are, and what follows."""

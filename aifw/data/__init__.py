"""Data: feedback and preference pairs."""

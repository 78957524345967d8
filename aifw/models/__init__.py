"""Models: where they come from, loading and scoring."""

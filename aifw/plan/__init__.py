"""Decide: a pure function from a spec and a snapshot to a plan."""

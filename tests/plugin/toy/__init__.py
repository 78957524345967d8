"""A tiny package of kinds that another author could have written; tests install it."""

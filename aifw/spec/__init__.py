"""Text to types: a YAML spec with positions becomes a `Spec`, or a list of diagnostics that point at characters."""

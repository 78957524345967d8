"""Remember: state, artifacts, aliases and the journal, in SQLite and a content-addressed store."""

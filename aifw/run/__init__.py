"""Do: the engine, its workers, and recovery after a crash."""

"""The training loop in plain torch; launchers stand above it."""

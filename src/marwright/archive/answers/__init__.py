"""The handler's half of the gate: from raw request bytes to JSON."""

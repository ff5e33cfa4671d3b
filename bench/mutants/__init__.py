"""Healthy models and ways to break them: what proves that the parity gate can fail."""

"""Where a failed export begins to differ from its checkpoint, and a folder that shows it."""

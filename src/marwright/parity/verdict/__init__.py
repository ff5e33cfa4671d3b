"""How far an export may be off, and what it is when it is further: the tolerance and the checks."""

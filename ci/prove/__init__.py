"""The long proofs, one a file: `python -m ci.prove [NAME…]` runs them and writes their table."""

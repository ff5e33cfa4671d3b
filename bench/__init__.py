"""The long proofs, one a file: `python -m bench [NAME…]` runs them and writes their table."""

"""How archives lie on disk: zip, tar.gz and folders, written and read in one pass each."""

"""The templates of the pages, as text in Python: keys follow imports, so an edit here is seen."""

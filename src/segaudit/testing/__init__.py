"""Generic checks."""

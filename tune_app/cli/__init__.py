"""Thin commands over the library, one file for each panel of `tune-app --help`."""

"""Data sets as they are published: files, folders, archives and tables, each read by one loader."""

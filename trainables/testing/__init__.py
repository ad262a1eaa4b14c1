"""Exams that a plug-in must pass; a test subclasses the one of its kind."""

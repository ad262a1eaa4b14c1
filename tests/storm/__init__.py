"""Faults at every place where a search can be hit: a sample of them in the tests, all of them by `make storm`."""

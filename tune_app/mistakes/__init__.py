"""Where a network errs: confusion, classes, calibration, and what compression broke. It reads single networks."""

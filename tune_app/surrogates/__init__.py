"""What trials will report, learned from those that have ended: numbers in, numbers out, none of it known for sure."""

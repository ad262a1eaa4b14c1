"""What runs next, from records alone: no Ray, no clock, no file. An engine asks it and tells it how trials ended."""

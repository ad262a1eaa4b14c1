"""The training loop and what acts on each of its steps. Every stage that trains uses it."""

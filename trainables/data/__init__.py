"""Images: where they come from, how they are split, and how they are augmented. Training and evaluation read them."""

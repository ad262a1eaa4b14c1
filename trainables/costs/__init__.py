"""What a network costs, by exact counts that need no training: operations, activations, bytes of formulas."""

"""Networks of units, built from an architecture, and the places where quantizers sit in them."""

"""Networks as data: what a network computes, and which of its channels belong together; from any torch module."""

"""The weights of a layer as bytes: each coder, what they have in common, and the stream that layers share."""

"""Random changes of training images, and the policies that choose them."""

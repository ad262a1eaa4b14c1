"""The first search of a person: its spec is made from a network, its images and a size, to be run or changed."""

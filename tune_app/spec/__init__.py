"""What one experiment is: a checked, frozen specification, from YAML and back. All other rooms take it as given."""

"""How things are said on a terminal: progress, tables and quantities. It knows no experiment; every command uses it."""

"""The engine on Ray. It is the only room of this package that imports ray."""

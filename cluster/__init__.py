"""Running the command line on other machines; imports none of the other packages."""

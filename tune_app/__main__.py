"""`python -m tune_app` is `tune-app`."""

from tune_app.cli import main

main()

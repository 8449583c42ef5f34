"""`python -m picojoule.cli`, the form that torchrun starts."""

from picojoule.cli.app import main

main()

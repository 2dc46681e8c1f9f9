"""`python -m prox` is `prox`."""

from prox.cli import main

if __name__ == "__main__":
    main()

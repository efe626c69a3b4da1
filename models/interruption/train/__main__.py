"""`python -m models.interruption.train`."""

from models.interruption.train.train import main

if __name__ == "__main__":
    main()

"""`python -m models.interruption.evaluate`."""

from models.interruption.evaluate.evaluate import main

if __name__ == "__main__":
    main()

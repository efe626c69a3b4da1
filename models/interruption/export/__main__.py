"""`python -m models.interruption.export`."""

from models.interruption.export.export import main

if __name__ == "__main__":
    main()

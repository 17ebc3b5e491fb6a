"""`python -m mofaface`, and with it `torchrun -m mofaface train`."""

from mofaface.cli import main

if __name__ == "__main__":
    main()

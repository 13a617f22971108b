"""The file a launcher runs by its path (`legate --gpus 4 spilegate/main.py ...`), installed or not, from any folder."""

import sys
from pathlib import Path

# Run by path, Python puts this folder, not its parent, on the path: modules would shadow others of the same name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
sys.path.insert(0, str(_HERE.parent))

from spilegate.cli import main  # noqa: E402 - the path above has to be right first

if __name__ == "__main__":
    main()

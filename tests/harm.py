"""An object whose pickle makes a folder when it is loaded: it shows whether code is run."""

import os
import pickle
from pathlib import Path


class Harm:
    """Its pickle makes a folder, if a reader lets it.

    Args:
        path: The folder; it must not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o777, True)

    @property
    def done(self) -> bool:
        """Whether the folder is there."""
        return self.path.exists()

    def check_that_it_works(self) -> None:
        """A reader of pickles does run it; else a test with it could not fail."""
        assert not self.done
        pickle.loads(pickle.dumps(self))
        assert self.done

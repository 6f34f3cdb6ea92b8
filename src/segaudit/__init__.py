"""Train semantic segmentation models and audit their explanations while they train."""

from pathlib import Path as _Path

import lazy_loader as _lazy_loader

from segaudit import _moved

if _Path(__file__).with_name("callbacks").is_file():
    raise ImportError(
        "src/segaudit/callbacks is a text file here, but it must be a symbolic link to callbacks/: this checkout was "
        "made without symbolic links. Run `git config core.symlinks true` and check the repository out again, or install "
        "the wheel."
    )

__version__ = "0.1.0"

_moved.install()
# What __init__.pyi lists is imported when it is first used: `import segaudit` alone costs next to nothing.
__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)

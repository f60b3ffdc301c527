"""Rate-distortion autoencoders: an image codec that writes files, and the models around it.

```python
import rdae

data = rdae.compress("photo.png", quality=60)  # a path, a Pillow image or an array, to bytes
image = rdae.decompress(data)  # bytes to a Pillow image
codec = rdae.load("photo")  # a codec to keep
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdae.coding.codec import Codec
    from rdae.coding.registry import compress, decompress, load
    from rdae.errors import RdaeError

__version__ = "0.1.0"
__all__ = ["Codec", "RdaeError", "__version__", "compress", "decompress", "load"]

_HOMES = {
    "Codec": "rdae.coding.codec",
    "RdaeError": "rdae.errors",
    "compress": "rdae.coding.registry",
    "decompress": "rdae.coding.registry",
    "load": "rdae.coding.registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rdae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

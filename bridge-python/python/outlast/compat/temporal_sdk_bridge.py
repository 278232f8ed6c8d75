"""The native module that the package `temporalio` stands on, made of the Outlast core.

It has every name of `temporalio.bridge.temporal_sdk_bridge`, with the same arguments, results, errors and threading rules.
Programs do not import it themselves: `outlast.compat.temporalio.install()` puts it in the other's place.
"""

from outlast._native import temporal_sdk_bridge as _module

globals().update({name: value for name, value in vars(_module).items() if not name.startswith("__")})
__all__ = sorted(name for name in vars(_module) if not name.startswith("_"))

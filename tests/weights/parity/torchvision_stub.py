"""timm asks for torchvision when it is imported, and for image towers never uses it."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


def install():
    """Puts empty modules in the place of torchvision, where it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = _Module(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


class _Class(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Class(name, (), {})

"""From `module:attribute` to the object, with an error for each way in which that can go wrong."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from consona.errors import ConfigurationError, ConsonaError

__all__ = ["ImportFailedError", "TargetError", "find_modules_in", "load", "load_asgi"]

FRAMES_SHOWN: Final = 8


class TargetError(ConfigurationError):
    """`module:attribute` does not lead to what was asked for. Trying again will not help."""

    code = "configuration.target"


class ImportFailedError(ConsonaError):
    """The module was found, and its own code failed while it was imported."""

    code = "import_failed"
    hint = "The lines above are your own code; the last of them is where it happened."


def load(target: str, folder: Path) -> Any:
    """Import `module:attribute`, where modules are found from `folder` first.

    Raises:
        TargetError: The text is of another form, or the module or the attribute does not exist.
        ImportFailedError: The module's own code raised an error.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise TargetError(
            f"{target!r} does not name an application.", hint="Write module:attribute, for example shop.api:api."
        )
    find_modules_in(folder)
    found: Any = _module(module_name, folder)
    for step in attribute.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            raise TargetError(
                f"The module {module_name!r} has no {attribute!r}.", hint=_other_names(found, step)
            ) from None
    return found


def find_modules_in(folder: Path) -> None:
    """Let `import` look in `folder` before all others."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def load_asgi(target: str, folder: Path) -> Callable[..., Any]:
    """`load`, and make sure that it is an ASGI 3 application; `module:make()` calls a function that makes it.

    Raises:
        TargetError: It is none; the message says what it is.
        ImportFailedError: The module, or the function that makes it, raised an error.
    """
    found = load(target.removesuffix("()"), folder)
    if target.endswith("()"):
        try:
            found = found()
        except Exception as error:  # the user's code may raise anything
            raise _failed(f"{target} failed", error) from error
    problem = _not_asgi(found)
    if problem:
        raise TargetError(
            f"{target!r} is not an ASGI application: {problem}.",
            hint="Name an APIServer, or any object that is called as app(scope, receive, send).",
        )
    application: Callable[..., Any] = found
    return application


def _module(name: str, folder: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        here = [path.stem for path in folder.glob("*.py")] + [path.parent.name for path in folder.glob("*/*.py")]
        close = difflib.get_close_matches(name.partition(".")[0], set(here), n=1)
        raise TargetError(
            f"There is no module {error.name!r} in {folder}, and none is installed.",
            hint=f"Did you mean {close[0]!r}?"
            if close
            else "Run it from the folder that holds it, or name the folder with --folder.",
        ) from None
    except (SyntaxError, ImportError) as error:
        raise _broken(name, error) from error
    except Exception as error:  # the user's code may raise anything
        raise _failed(f"{name} could not be imported", error) from error


def _broken(name: str, error: ImportError | SyntaxError) -> TargetError:
    """For faults of the program's text, which no second try will heal."""
    return TargetError(f"{name} could not be imported:\n{own_traceback(error)}", hint=ImportFailedError.hint)


def _failed(what: str, error: Exception) -> ConsonaError:
    if isinstance(error, ConfigurationError):
        return error  # it says itself what to do
    return ImportFailedError(f"{what}:\n{own_traceback(error)}")


def own_traceback(error: BaseException) -> str:
    """The traceback without the frames of Python itself, of installed packages and of Consona."""
    found = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in found.stack if _is_own(frame.filename)]
    found.stack = traceback.StackSummary.from_list(frames[-FRAMES_SHOWN:])
    return "".join(found.format(chain=False)).rstrip()


def _is_own(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    inside = ({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(_STANDARD)
    return not inside and not path.is_relative_to(_CONSONA)


_STANDARD: Final = Path(traceback.__file__).resolve().parent
_CONSONA: Final = Path(__file__).resolve().parent.parent


def _other_names(owner: Any, wanted: str) -> str:
    names = [name for name in vars(owner) if not name.startswith("_")] if hasattr(owner, "__dict__") else []
    close = difflib.get_close_matches(wanted, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    applications = [name for name in names if not _not_asgi(getattr(owner, name))]
    return f"Applications in it: {', '.join(applications)}." if applications else "There is no application in it."


def _not_asgi(found: Any) -> str:
    """Why it is no ASGI 3 application, or the empty text."""
    if inspect.isclass(found):
        return "it is a class; name an instance of it"
    if not callable(found):
        return f"it is of the type {type(found).__name__}, which cannot be called"
    call = found if inspect.isroutine(found) else type(found).__call__
    if not inspect.iscoroutinefunction(call) and inspect.isroutine(found):
        return "it is a plain function; an application is asynchronous"
    try:
        inspect.signature(found).bind(None, None, None)
    except TypeError:
        return "it does not take the three arguments scope, receive, send"
    except ValueError:  # built in C, without a signature: the server will find out
        return ""
    return ""

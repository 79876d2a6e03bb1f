"""Puts a folder on the Hugging Face hub, as one commit of a repository."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from protocol.errors import Misconfigured, Unavailable

_NO_TOKEN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def upload_folder(folder: Path, repository: str, message: str, *, private: bool) -> str:
    """Upload a folder's files to a model repository, created if need be; return the commit's URL.

    `repository` is OWNER/NAME; `private` counts for a new one. The token is the one that the hub's
    own tools use. Raises Misconfigured for a name or token that the hub refuses, and Unavailable
    when it does not answer.
    """
    hub = huggingface_hub.HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        made = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except HFValidationError as error:
        raise Misconfigured(f"{repository!r} is no name of a hub repository: OWNER/NAME") from error
    except LocalTokenNotFoundError as error:
        raise Misconfigured(f"the hub needs a token: {_NO_TOKEN}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            text = f"the hub does not let you write to {repository} (HTTP {status}): {_NO_TOKEN}"
            raise Misconfigured(text) from error
        text = f"the hub refused {repository} with HTTP {status}: {error.server_message or ''}"
        raise Unavailable(text.rstrip(": "), service="training") from error
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        raise Unavailable(
            f"cannot reach the hub for {repository} ({type(error).__name__}): go online, and push"
            " again",
            service="training",
        ) from error
    return str(made.commit_url)

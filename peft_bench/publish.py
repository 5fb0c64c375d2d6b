"""An adapter's folder, card and all, to the hub."""

from __future__ import annotations

from pathlib import Path

from peft_bench import adapters
from peft_bench.errors import MissingError, UsageError


def push(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Uploads the folder that ``train`` made; returns the address of the commit.

    The repository is made if it is not there, private unless told otherwise. The hub and the
    token are huggingface_hub's own (``HF_ENDPOINT``, ``HF_TOKEN``, ``hf auth login``).

    Raises:
        UsageError: the folder holds no whole adapter of ours, or the id is none.
        MissingError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    source = Path(folder)
    card = adapters.check_folder(source) if source.is_dir() else None
    if card is None:
        raise UsageError(
            place=str(source),
            problem="holds no adapter with a card",
            remedy="name the folder that `peft-bench train` made",
        )
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=source,
            commit_message=f"{card.name}, trained with peft-bench",
            ignore_patterns=["checkpoints/*"],
        )
    except HFValidationError as error:
        raise UsageError(
            place=f"--push {repo_id}", problem=str(error), remedy="write NAME or ORGANISATION/NAME"
        ) from None
    except Exception as error:
        # Those of the hub's client, of the HTTP library below it, and of threads that upload.
        raise MissingError(
            place=f"--push {repo_id}",
            problem=f"the hub did not take it: {_first_line(error)}",
            remedy="check the id, the network (HF_ENDPOINT) and the token (HF_TOKEN); the adapter "
            f"stays in {source}",
        ) from error
    return str(commit.commit_url)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__

"""`model push`: a model on a hub, whole, with its card; and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peft import PeftConfig

from commonweight.model.push import push
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from tests.cases import models
from tests.cases.test_exports import ORIGIN, trained
from tests.commonweight.fake_hub import FakeHub, running_hub
from tests.training.conftest import make_spec
from training.sources import resolve_source

REPOSITORY, BASE = "ann/flashcards", "somebody/tiny-llama"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path / "home"))
        yield hub


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = resolve_source("tiny-llama", tmp_path_factory.mktemp("cache")).folder
    return models.copied(made, tmp_path_factory.mktemp("models") / "base")


def pushed(base: Path, repository: str = REPOSITORY, base_name: str | None = BASE) -> str:
    adapter = trained(make_spec(resolve_source(str(base), base)))
    return push(adapter, str(base), repository, None, base_name=base_name, private=True)


def test_an_adapter_is_published_whole_and_names_its_base(
    hub: FakeHub, base: Path, tmp_path: Path
) -> None:
    url = pushed(base)
    assert url == f"{hub.url}/{REPOSITORY}/commit/{'c' * 40}"
    files = hub.repositories[REPOSITORY]
    assert hub.private[REPOSITORY]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert config.base_model_name_or_path == BASE
    assert {"adapter_model.safetensors", "tokenizer.json", "README.md"} <= files.keys()
    card = files["README.md"].decode()
    assert f"base_model: {BASE}" in card
    assert ORIGIN.root.hex() in card
    assert not any(str(base).encode() in content for content in files.values())
    (message,) = hub.messages
    assert message.endswith(f"of federation {ORIGIN.federation}, root {ORIGIN.root.hex()}")
    # Again: another commit to the repository that is there.
    assert pushed(base) == url
    assert len(hub.messages) == 2


@pytest.mark.parametrize(
    ("repository", "base_name", "status", "token", "kind", "words"),
    [
        (REPOSITORY, None, None, None, Misconfigured, "was not found on the hub: give --base"),
        ("no name/at all/", BASE, None, None, Misconfigured, "is no name of a hub repository"),
        (REPOSITORY, BASE, None, "hf_other", Misconfigured, r"HTTP 401\): log in with `hf auth"),
        (REPOSITORY, BASE, 403, None, Misconfigured, "does not let you write to ann/flashcards"),
        (REPOSITORY, BASE, 500, None, Unavailable, "refused ann/flashcards with HTTP 500"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    repository: str,
    base_name: str | None,
    status: int | None,
    token: str | None,
    kind: type[CommonweightError],
    words: str,
    hub: FakeHub,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.status = status
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=words) as caught:
        pushed(base, repository, base_name)
    assert "\n" not in str(caught.value)
    assert not hub.repositories.get(REPOSITORY)


def test_a_hub_that_is_down_is_one_line(
    hub: FakeHub, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot reach the hub for ann/flashcards") as caught:
        pushed(base)
    assert "\n" not in str(caught.value)

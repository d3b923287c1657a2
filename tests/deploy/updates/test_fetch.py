import pytest

from deploy.updates.fetch import Fetcher
from models.dummy import write_dummy
from tests.fakes.tufrepository import MadeRepository

NOW_S = 1_800_000_000


@pytest.fixture
def made(tmp_path) -> MadeRepository:
    made = MadeRepository(tmp_path / "repository", NOW_S)
    (tmp_path / "root.json").write_bytes(made.pinned)
    return made


@pytest.fixture
def fetcher(tmp_path, made) -> Fetcher:
    return Fetcher(
        str(made.folder), tmp_path / "root.json", tmp_path / "state" / "rollout", lambda: made.now_s
    )


def test_a_release_in_a_folder_is_fetched(tmp_path, made, fetcher):
    write_dummy(tmp_path / "student", version=2)
    release = made.release(tmp_path / "student", 1)
    assert fetcher.fetch_index().releases == (release,)
    manifest_bytes, onnx_bytes = fetcher.fetch_student(release)
    assert manifest_bytes == (tmp_path / "student" / "manifest.json").read_bytes()
    assert onnx_bytes == (tmp_path / "student" / "model.onnx").read_bytes()

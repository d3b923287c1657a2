"""The markers of `conftest.py`: visible reasons, and no skip of required components."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")

TESTS = """
import pytest

@pytest.mark.needs_data
def test_marked(): pass

def test_with_fixture(data_dir): assert data_dir.is_dir()

@pytest.mark.needs_training
def test_skips_itself():
    pytest.importorskip("no_such_module_anywhere")

@pytest.mark.needs_training
@pytest.mark.xfail(reason="known")
def test_expected_failure(): raise AssertionError

@pytest.mark.skip(reason="not about a component")
def test_other(): pass
"""

WHOLE_MODULE = """
import pytest
pytest.importorskip("no_such_module_anywhere")
pytestmark = pytest.mark.needs_kafka_mock
def test_never_seen(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("KPSTREAM_TEST_DATA", raising=False)
    monkeypatch.delenv("KPSTREAM_REQUIRE", raising=False)
    names = ("data", "mosquitto", "training", "kafka_mock", "chromium")
    markers = "\n".join(f"  needs_{name}: x" for name in names)
    options = "addopts = -p no:cacheprovider -p no:asyncio"
    pytester.makeini(f"[pytest]\n{options}\nmarkers =\n{markers}\n")
    # Whether torch is installed where this runs must not matter.
    pytester.makeconftest(CONFTEST.replace('_modules("torch", "transformers", "onnx")', "True"))
    pytester.makepyfile(test_items=TESTS)
    return pytester


def test_a_missing_component_is_skipped_with_advice(suite: pytest.Pytester) -> None:
    result = suite.runpytest("-rs")
    result.assert_outcomes(skipped=4, xfailed=1)
    result.stdout.fnmatch_lines(["*needs data: set KPSTREAM_TEST_DATA to a folder with *"])


@pytest.mark.parametrize(
    ("required", "failed"), [("data", 2), ("training", 1), ("data, training", 3), ("all", 3)]
)
def test_skip_of_a_required_component_is_a_failure(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, failed: int
) -> None:
    monkeypatch.setenv("KPSTREAM_REQUIRE", required)
    result = suite.runpytest()
    counts = result.parseoutcomes()
    # A skip in the setup counts as an error there, one in the body as a failure.
    assert counts.get("failed", 0) + counts.get("errors", 0) == failed
    assert counts["xfailed"] == 1
    assert counts["skipped"] == 4 - failed
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*KPSTREAM_REQUIRE demands *, yet: *"])


def test_skip_in_a_parallel_worker_is_a_failure_too(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("KPSTREAM_REQUIRE", "data, training")
    counts = suite.runpytest("-n", "2", "--dist", "loadfile").parseoutcomes()
    assert counts.get("failed", 0) + counts.get("errors", 0) == 3
    assert counts["xfailed"] == 1
    assert counts["skipped"] == 1


def test_component_that_is_here_is_used(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = suite.mkdir("sets")
    for name in ("cmapss.zip", "uci_har_test.npz", "uci_har_train.npz"):
        (folder / name).touch()
    monkeypatch.setenv("KPSTREAM_TEST_DATA", str(folder))
    monkeypatch.setenv("KPSTREAM_REQUIRE", "data")
    suite.runpytest().assert_outcomes(passed=2, skipped=2, xfailed=1)


@pytest.mark.parametrize(("required", "code"), [("mosquitto", 5), ("all", 2)])
def test_module_that_skips_itself_as_a_whole_is_a_failure(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, code: int
) -> None:
    monkeypatch.setenv("KPSTREAM_REQUIRE", required)
    suite.makepyfile(test_whole=WHOLE_MODULE)
    assert suite.runpytest("test_whole.py").ret == code


def test_misspelt_component_is_refused(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_REQUIRE", "dat")
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*KPSTREAM_REQUIRE names dat; known are data, mosquitto,*"])


def test_a_file_of_tests_that_can_not_be_imported_is_no_skip(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_broken="import no_such_module_anywhere\ndef test_lost(): pass\n")
    result = suite.runpytest("--doctest-modules", "--doctest-ignore-import-errors")
    assert result.parseoutcomes().get("errors", 0) >= 1
    assert result.ret != 0


SLOW = """
import pytest
pytestmark = [pytest.mark.needs_kafka_server, pytest.mark.slow]
def test_of_a_site(): pass
"""


@pytest.mark.parametrize(
    ("setting", "value", "runs"),
    [
        ("KPSTREAM_TEST_SITE", "0", False),
        ("KPSTREAM_TEST_SITE", "1", True),
        ("KPSTREAM_REQUIRE", "kafka_server", True),
        ("KPSTREAM_REQUIRE", "data", False),
    ],
)
def test_slow_tests_of_real_servers_run_on_request(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    runs: bool,
) -> None:
    for name in ("KPSTREAM_TEST_SITE", "KPSTREAM_REQUIRE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(setting, value)
    pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n"
        "markers =\n  needs_kafka_server: x\n  slow: x\n"
    )
    here = "lambda: find_servers().kafka_libs and find_servers().java"
    assert here in CONFTEST
    pytester.makeconftest(CONFTEST.replace(here, "lambda: True"))
    pytester.makepyfile(test_items=SLOW)
    result = pytester.runpytest("-rs")
    result.assert_outcomes(passed=int(runs), skipped=int(not runs))
    if not runs:
        result.stdout.fnmatch_lines(["*KPSTREAM_TEST_SITE=1 make test runs it too*"])

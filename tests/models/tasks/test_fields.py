"""Names that are one name."""

import unicodedata

import pytest

from models.tasks.fields import fold_label


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Walking upstairs", "WALKING_UPSTAIRS"),
        ("Gehen über Straßen", "GEHEN ÜBER STRASSEN"),
        (unicodedata.normalize("NFD", "élan"), unicodedata.normalize("NFC", "ÉLAN")),
        ("\N{OHM SIGN}", "\N{GREEK SMALL LETTER OMEGA}"),
    ],
)
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert fold_label(one) == fold_label(other)
    assert fold_label(fold_label(one)) == fold_label(one)


@pytest.mark.parametrize(("one", "other"), [("sitting", "sitting down"), ("S3", "S-3")])
def test_different_names_stay_apart(one: str, other: str) -> None:
    assert fold_label(one) != fold_label(other)

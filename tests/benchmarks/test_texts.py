import pytest

from benchmarks import texts


def test_no_text_is_in_both_halves() -> None:
    tuning, reporting = texts.paragraphs("tuning"), texts.paragraphs("reporting")
    assert not set(tuning) & set(reporting)
    assert min(len(tuning), len(reporting)) > 500


def test_texts_are_the_same_each_time() -> None:
    assert texts.workload("mixed", 100) == texts.workload("mixed", 100)
    assert texts.digest(texts.workload("mixed", 100)) != texts.digest(texts.workload("mixed", 100, "tuning"))


def test_mixed_is_mixed() -> None:
    words = sorted(len(text.split()) for text in texts.workload("mixed", 512))
    assert words[0] < 5
    assert words[-1] > 128


def test_short_are_a_few_words() -> None:
    assert all(3 <= len(text.split()) <= 12 for text in texts.workload("short", 512))


def test_full_are_long_enough_to_be_cut() -> None:
    assert all(len(text.split()) >= 128 for text in texts.workload("full", 256))


def test_as_many_texts_as_asked_for() -> None:
    assert len(texts.workload("full", 3000)) == 3000


def test_an_unknown_workload_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted one of mixed, short, full, got 'long'"):
        texts.workload("long", 1)

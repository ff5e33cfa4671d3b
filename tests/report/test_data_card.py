"""The data card: what there is of each class, and what is wrong with it."""

from __future__ import annotations

import re

import msgspec

from marwright.report.data_card import data_section, ordered, rows
from marwright.report.page import page_of
from marwright.training.record import DataCard, Duplicates, Pair
from marwright.training.samples import Fault
from tests.report.html import faults, words
from tests.report.train_reports import classifier, regression, troubled

replace = msgspec.structs.replace


def html(data: DataCard) -> str:
    page = page_of([data_section(data)], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def test_samples_are_counted_by_split_and_class() -> None:
    text = words(html(classifier(2).data))
    assert "Data set animals : 346 samples of 2 classes." in text
    assert "In train, the largest class, cat, has 120 samples and the smallest, dog, 111:" in text
    assert "train 231 66.8 % validation 38 11.0 % test 77 22.3 %" in text
    assert "cat 120 20 40 180 dog 111 18 37 166" in text
    assert "Faults None was found." in text
    assert "Near copies 0 of 300 held-out samples compared with training" in text


def test_splits_stand_in_their_order_whatever_that_of_the_file_is() -> None:
    assert ordered(["test", "extra", "validation", "train"]) == [
        "train", "validation", "test", "extra"
    ]  # fmt: skip
    data = classifier(2).data
    turned = replace(data, counts=dict(sorted(data.counts.items())))
    assert html(turned) == html(data)


def test_bars_are_as_long_as_a_class_is_large() -> None:
    data = replace(
        classifier(3).data,
        counts={"train": [60, 30, 0], "validation": [0, 0, 0], "test": [40, 20, 0]},
    )  # fmt: skip
    assert [row.widths for row in rows(data)] == [(60, 0, 40), (30, 0, 20), (0, 0, 0)]
    page = html(data)
    assert "cat, has 60 samples and the smallest, hedgehog, none." in words(page)
    assert page.count('class="number bad">0<') == 5


def test_of_many_classes_the_largest_and_the_smallest_are_in_sight() -> None:
    in_sight, _, rest = html(classifier(40).data).partition("All 40 classes")
    assert "24 in between" in words(in_sight)
    assert in_sight.count('class="stack"') == 16 and rest.count('class="stack"') == 40
    assert "in between" not in words(html(classifier(20).data))


def test_equal_classes_are_said_to_be_equal() -> None:
    data = replace(classifier(2).data, counts={"train": [5, 5]})
    assert "In train, all classes have the same number of samples." in words(html(data))


def test_the_imbalance_is_that_of_training() -> None:
    data = replace(classifier(2).data, counts={"test": [1, 30], "train": [20, 5]})
    assert "the smallest, dog, 5: a ratio of 4." in words(html(data))


def test_a_target_is_shown_by_its_range() -> None:
    text = words(html(regression().data))
    assert "Split Samples Part Least Mean Largest train 294 66.7 % 25 152.1 346 validation" in text
    assert "Classes" not in text and "largest class" not in text


def test_the_first_faults_are_in_sight_and_all_are_named() -> None:
    in_sight, _, rest = html(troubled().data).partition("7 more faults")
    assert len(re.findall(r"<li><strong>img/\d+.jpg</strong>: cannot", in_sight)) == 20
    assert len(re.findall(r"<li><strong>img/\d+.jpg</strong>: cannot", rest)) == 7
    one = replace(classifier(2).data, faults=[Fault(where="<a>", what="<b>")])
    assert "Faults 1 fault: what has one was left out. <a> : <b> Duplicates" in words(html(one))


def test_what_training_knows_is_named_with_its_labels() -> None:
    text = words(html(troubled().data))
    assert "Leaked 9 held-out samples that are in the training split too" in text
    assert "b/2.png a/2.png both cat b/3.png a/3.png cat and dog" in text
    assert "4 more pairs" in text and "11 pairs besides are not named." in text
    pairs = [Pair(held_out="sample 3", train="sample 4")]
    found = Duplicates(exact=1, conflicting=0, leaked=1, near=0, compared=9, pairs=pairs)
    text = words(html(replace(regression().data, duplicates=found)))
    assert "Held out Of training Labels sample 3 sample 4 –" in text
    assert "besides" not in text


def test_what_was_not_compared_is_not_said_to_be_no_copy() -> None:
    none = replace(classifier(2).data.duplicates, compared=0)
    text = words(html(replace(classifier(2).data, duplicates=none)))
    assert "Near copies – no held-out sample could be compared with training" in text

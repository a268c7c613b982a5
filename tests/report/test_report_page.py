"""The page: whole, self-contained, readable by a program, and honest about what a run lacks."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import toy_run
from PIL import Image

from tfaug import report
from tfaug.workdir import Row, read_rows, write_rows

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(html.parser.HTMLParser):
    """Collects what a page is made of and checks that its elements are properly nested."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, *first: str) -> list[str]:
        """Returns the only table row that begins with these cells."""
        (row,) = [row for row in self.rows if [cell.strip() for cell in row[: len(first)]] == list(first)]
        return [cell.strip() for cell in row]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the whole toy run."""
    workdir = tmp_path_factory.mktemp("toy") / "run"
    toy_run.write_run(workdir)
    return report.write_report(workdir).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_report_is_written_beside_its_summary(workdir):
    path = report.write_report(workdir)
    assert path == workdir / "report.html"
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary == report.summarize(report.read_run(workdir))
    assert not [left.name for left in workdir.iterdir() if left.name.startswith(".")]


def test_same_workdir_gives_the_same_bytes(workdir):
    first = [report.write_report(workdir).read_bytes(), (workdir / "summary.json").read_bytes()]
    second = [report.write_report(workdir).read_bytes(), (workdir / "summary.json").read_bytes()]
    assert first == second


def test_failed_report_leaves_the_last_one_alone(workdir):
    before = report.write_report(workdir).read_bytes()
    (workdir / "rows.csv").unlink()
    with pytest.raises(FileNotFoundError):
        report.write_report(workdir)
    assert (workdir / "report.html").read_bytes() == before


def test_page_needs_nothing_from_outside(page, text):
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link|<iframe", text)
    for _, attributes in page.tags:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]


def test_every_id_is_unique_and_every_reference_has_its_target(page, text):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) | set(re.findall(r'aria-labelledby="([^"]+)"', text))
    assert wanted and wanted <= set(ids)


def test_names_are_escaped(page, text):
    assert "<h1>toy &lt;run&gt; &amp; more</h1>" in text and not page.find("run")


def test_page_says_which_run_it_is(page):
    for fact in ("0123456789ab", "feedbeef", "2025-01-02 03:04:05 UTC", "toy test"):
        assert fact in page.text


def test_tables_show_the_numbers(page):
    assert page.row("teacher refine")[1:4] == ["90.0 %", "59.6 % to 98.2 %", "272,474"]
    assert page.row("student", "70.0 %")[3] == "61,706"
    clean, attacked, gap = [row for row in page.rows if [cell.strip() for cell in row[:2]] == ["refine", "plain"]]
    assert clean[2:] == ["90.0 %", "59.6 % to 98.2 %", "0.4311", "0.1000", "0.2000", "10"]
    assert attacked[2:] == ["75.0 %", "50.0 %", "15.0 % to 85.0 %", "0.0 %", "0.0 % to 49.0 %", "4"]
    assert gap[2:7] == ["90.0 %", "10", "60.0 %", "20", "+30.0"]
    assert page.row("PGD")[1:] == ["4", "epsilon 8/255, step size 2/255, num steps 10, random start no"]
    assert page.row("Total")[1] == "1 min 10 s"
    assert page.row("numpy") == ["numpy", "1.26.4"]


def test_page_calls_the_attack_on_sum_aug_a_transfer_test(page):
    assert "transfer test, not an adaptive attack" in page.text
    assert "made on the plain local model" in page.text


def test_page_names_the_shifted_set_as_described(page):
    assert "toy test against toy shifted: other toys" in page.text
    assert "each set is drawn apart from the other" in page.text


def test_page_says_how_sum_aug_was_asked(page):
    assert "each of which mixes the image (share a) with 1 of 12 fixed training images" in page.text
    assert "a mirror answer is the mean over the image and its left-right mirror image" in page.text


def test_page_tells_what_was_chosen_and_what_it_gained(page):
    assert "refine: serves plain; Sum-Aug with n = 8, a = 0.667" in page.text
    assert "20 validation images" in page.text
    assert page.row("Sum-Aug n=8 a=0.667")[1:] == [
        *("8", "85.0 %", "50.0 % to 95.0 %", "0.6250", "0.2500 to 0.7500", "+5.0", "\N{MINUS SIGN}5.0 to +15.0"),
    ]
    assert page.row("refine", "Sum-Aug", "8")[3:] == [
        *("90.0 %", "\N{MINUS SIGN}20.0", "\N{MINUS SIGN}50.0 to +0.0", "no difference shown"),
    ]


def test_every_figure_is_there_and_says_what_it_shows(page):
    labels = {attributes["aria-label"] for attributes in page.find("svg")}
    for begin in (
        "Loss of teacher over 3 epochs. Phase 0_train ends at training 1.5, validation 1.",
        "Accuracy of teacher over 3 epochs.",
        "Learning rate of teacher over 3 epochs. Phase 0_train ends at 0.05. Phase 1_refine ends at 0.001.",
        "Loss of student over 1 epochs.",
        "Reliability of train on the test set",
        "Reliability of refine on the test set: accuracy over confidence. Expected calibration error: plain 0.100, ",
        "Reliability of student on the test set",
        "Accuracy of refine by attack: plain clean 90.0 %, plain FGSM 50.0 %, plain PGD 0.0 %, Sum-Aug clean 70.0 %",
    ):
        assert [label for label in labels if label.startswith(begin)], begin
    assert len(page.find("svg")) == 3 + 3 + 3 + 1
    assert all(attributes["alt"] and attributes["width"] for attributes in page.find("img"))


def test_contact_sheet_shows_each_pixel_as_a_square(page):
    strips = page.find("img")
    assert len(strips) == 3
    data = base64.b64decode(strips[1]["src"].partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(data)))
    images = np.arange(3 * 4 * 8 * 8 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 4, 8, 8, 3)
    # 8 px are enlarged 12 times; the second image stands one gap of 4 px to the right of the first.
    second = picture[:, 100:196, :3]
    np.testing.assert_array_equal(second[::12, ::12], images[1, 1])
    np.testing.assert_array_equal(second, np.kron(images[1, 1], np.ones((12, 12, 1), np.uint8)))
    assert (picture[:, 96:100, 3] == 0).all()


@pytest.mark.parametrize(
    ("patterns", "sentence", "gone"),
    [
        (["predictions/student"], "Not measured: student; `tfaug evaluate` does that.", "Reliability, student"),
        (["predictions/*/shifted.*"], "No shifted test set was measured", "toy shifted"),
        (["predictions/*/*.fgsm.*", "predictions/*/*.pgd.*"], "No attacked images were sent", "Accuracy by attack"),
        (["predictions/*/*.sum_aug.npz"], "The models were not asked through Sum-Aug", "30.0 %, Sum-Aug"),
        (["export"], "Nothing was compared on validation images", "Against plain, points"),
        (["*/*/history.csv"], "No training history was found", "Learning rate"),
        (["figures"], "No augmented images were saved", "PadCrop"),
        (["timings.json"], "No timings were written", "Total"),
    ],
)
def test_missing_piece_is_left_out_with_a_sentence(workdir, patterns, sentence, gone):
    toy_run.forget(workdir, *patterns)
    page = Page(report.write_report(workdir).read_text(encoding="utf-8"))
    assert sentence in page.text
    assert gone not in page.text
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["teacher"]["test_accuracy"] == 0.9
    assert len(report.short_table(summary).splitlines()) <= 20


def test_a_run_with_only_what_is_needed_is_reported(workdir):
    toy_run.forget(workdir, "predictions", "figures", "timings.json", "*/*/history.csv", "export")
    toy_run.write_json(workdir / "rows.json", {"sets": {"test": {"title": "toy", "num_examples": 10}}})
    config = {"trainings": [{"name": "teacher", "phases": [{"name": "train"}]}]}
    toy_run.write_json(workdir / "config.json", {"config": config, "fingerprint": "x"})
    toy_run.write_json(workdir / "teacher/result.json", {})
    page = Page(report.write_report(workdir).read_text(encoding="utf-8"))
    assert page.row("teacher")[1:] == ["n/a", "", "n/a", "n/a", "n/a"]
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["gap"], summary["seconds"], summary["rows"]) == (None, None, [])
    assert "student" not in summary
    needless = ("attacks", "augmentations", "gap", "models", "sum_aug", "test_time", "timings", "training")
    assert sorted(summary["notes"]) == list(needless)


def test_rows_that_no_table_knows_stand_in_one_of_their_own(workdir):
    rows = read_rows(workdir / "rows.csv")
    own = Row("refine", "shifted", "pgd", "mirror", "mean_confidence", 0.12345, 0.1, 0.2, 1234)
    write_rows(workdir / "rows.csv", [*rows, own, Row("refine", "validation", "clean", "loud", "mean_confidence", 7)])
    page = Page(report.write_report(workdir).read_text(encoding="utf-8"))
    assert "Other measures" in page.text and "mean confidence" in page.text
    # Its own table, where the metric stands above, and the table of all rows.
    table, every = [row[1:] for row in page.rows if row[:2] == ["refine", "toy shifted"] and "PGD" in row]
    assert table == ["toy shifted", "PGD", "mirror", "0.1235", "0.1000 to 0.2000", "1,234"]
    assert every == ["toy shifted", "PGD", "mirror", "mean_confidence", "0.1235", "0.1000 to 0.2000", "1,234"]
    assert ["refine", "validation", "clean", "loud", "7.0000", "", "n/a"] in page.rows
    assert f"All {len(rows) + 2 + 17} rows" in page.text


def test_a_page_without_such_rows_has_no_such_table(page):
    assert "Other measures" not in page.text


def test_any_number_of_trainings_sets_and_attacks_is_shown(workdir):
    """A third training, a second other set, and the same attack twice."""
    config = json.loads((workdir / "config.json").read_text())
    config["config"]["trainings"].append({"name": "small", "phases": [{"name": "only"}]})
    toy_run.write_json(workdir / "config.json", config)
    toy_run.write_json(workdir / "small/result.json", {"num_parameters": 123, "phases": []})
    meanings = json.loads((workdir / "rows.json").read_text())
    meanings["models"]["small"] = {"training": "small", "phase": 0, "weights_sha256": toy_run.WEIGHTS["train"]}
    meanings["sets"]["twisted"] = {"title": "toy twisted", "description": "", "num_examples": 20}
    pgd = meanings["attacks"].pop("pgd")
    meanings["attacks"] |= {"pgd_4_255": {**pgd, "title": "PGD 4/255"}, "pgd_8_255": {**pgd, "title": "PGD 8/255"}}
    toy_run.write_json(workdir / "rows.json", meanings)
    toy_run.write_answers(workdir, "small/test.clean.plain", wrong=[1], weights="train")
    ids = [f"other-{i}" for i in range(20)]
    toy_run.write_answers(workdir, "refine/twisted.clean.plain", wrong=list(range(2)), ids=ids)
    toy_run.write_attacked(workdir, "refine/test.pgd_4_255.plain", wrong=[0])
    toy_run.write_attacked(workdir, "refine/test.pgd_8_255.plain", wrong=[0, 1])
    toy_run.measure_again(workdir)
    page = Page(report.write_report(workdir).read_text(encoding="utf-8"))
    assert page.row("small", "90.0 %")[3] == "123"
    assert "small on toy test" in page.text
    header = next(row for row in page.rows if "PGD 4/255" in row)
    assert header == [
        "Model",
        "Answers",
        "Clean, same images",
        *(t for a in ("FGSM", "PGD 4/255", "PGD 8/255") for t in (a, "95 % interval")),
        "n",
    ]
    attacked = next(row for row in page.rows if [cell.strip() for cell in row[:3]] == ["refine", "plain", "75.0 %"])
    assert attacked[3::2][:3] == ["50.0 %", "75.0 %", "50.0 %"]
    assert page.row("PGD 4/255")[0] and page.row("PGD 8/255")[0]
    assert "toy test against toy twisted" in page.text and "toy test against toy shifted: other toys" in page.text
    assert page.row("refine", "plain", "90.0 %", "10", "90.0 %")[5:7] == ["20", "+0.0"]
    summary = json.loads((workdir / "summary.json").read_text())
    assert list(summary["trainings"]) == ["teacher", "student", "small"]
    assert summary["small"]["test_accuracy"] == 0.9 and list(summary["phases"]) == ["train", "refine"]
    assert summary["phases"]["refine"]["gaps"]["twisted"]["plain"]["difference"] == 0.0
    assert summary["gap"]["shifted_set"] == "toy shifted"
    assert summary["served"]["plain"]["pgd_4_255_accuracy"] == 0.75
    assert "PGD 4/255" in report.short_table(summary)


def test_history_without_validation_is_drawn_without_it(workdir):
    toy_run.write_history(workdir, "teacher/0_train", ["1,5,0.1,2.0,0.3,,,3.0"])
    page = Page(report.write_report(workdir).read_text(encoding="utf-8"))
    (label,) = [each["aria-label"] for each in page.find("svg") if each["aria-label"].startswith("Loss of teacher")]
    assert "Phase 0_train ends at training 2. Phase" in label


def test_report_needs_no_tensorflow():
    names = {"tensorflow", "keras", "matplotlib.pyplot"}
    program = f"import sys, tfaug.report; print(sorted({names} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")

"""What the system refuses, and what the reader of an output closes, ends in one line or in none, never in a traceback."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import pathlib
import resource
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tfaug.serving import __main__ as serving_main
from tfaug.serving.models import ModelSource, read_config_file
from tfaug.serving.server import ServerOptions, log_line, run_server

from tests import tiny
from tests.test_data import _examples, _store
from tfaug import cli, files
from tfaug.cli import experiment
from tfaug.config import ConfigError
from tfaug.data import DataConfig, Tfds, load_data, load_test_set
from tfaug.data.copies import make_config, write_copies
from tfaug.export import export_model, load_exported
from tfaug.report import read_run
from tfaug.train import fit
from tfaug.workdir import Workdir

PATTERNS = ["run[1]", "run]", "run*", "run?", "run\\1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the CLI in this process; returns the status and what it complained of."""

    def run(*arguments: str) -> tuple[int, str]:
        for module in map(importlib.import_module, set(cli.COMMANDS.values())):
            if hasattr(module, "FLAGS"):
                module.FLAGS.unparse_flags()
                for name in module.FLAGS:
                    module.FLAGS[name].unparse()
        status = cli.main(arguments)
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Makes a function the command `tfaug try`."""

    def become(function: Callable[[], object]) -> None:
        module = types.SimpleNamespace(main=lambda command, arguments: function() and 0)
        monkeypatch.setitem(sys.modules, "tests.tried", module)
        monkeypatch.setitem(cli.COMMANDS, "try", "tests.tried")

    return become


# ------------------------------------------------------------------------------------------------------ what is written


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 2 KiB: the system refuses the rest as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def network() -> tf.keras.Model:
    """A network of 40 kB."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(100)])
    model.build((None, 100))
    return model


def write_checkpoint(path: pathlib.Path) -> None:
    with files.atomic_directory(path) as partial:
        tf.train.Checkpoint(weights=tf.Variable(np.zeros(10_000, np.float32))).write(str(partial / "state"))


def write_saved_model(path: pathlib.Path) -> None:
    module = tf.Module()
    module.weights = tf.Variable(np.zeros(10_000, np.float32))
    with files.atomic_directory(path) as partial:
        tf.saved_model.save(module, str(partial))


def write_weights(path: pathlib.Path) -> None:
    fit.save_weights(network(), path.with_suffix(".weights.h5"))


def write_arrays(path: pathlib.Path) -> None:
    with files.atomic_file(path.with_suffix(".npz")) as partial:
        np.savez(partial, zeros=np.zeros(10_000))


def write_records(path: pathlib.Path) -> None:
    with files.atomic_file(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        writer.write(bytes(10_000))


def write_json(path: pathlib.Path) -> None:
    files.write_json(path, [0] * 10_000)


WRITERS = [write_checkpoint, write_saved_model, write_weights, write_arrays, write_records, write_json]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("place", ["full", "below a file"])
def test_what_cannot_be_written_is_one_line_that_names_the_path(run, command, tmp_path, write, place) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "folder" if place == "below a file" else tmp_path

    def fail() -> None:
        with full_disk():
            write(folder / "out")

    command(fail)
    status, said = run("try")
    assert status == 1
    assert said.startswith("tfaug: ") and said.count("\n") == 1 and said.endswith("\n")
    assert str(folder) in said and "the same command goes on where it can" in said
    assert os.strerror(errno.EFBIG if place == "full" else errno.ENOTDIR) in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config=tests.tiny:run", "--workdir={}/run"],
        ["report", "--config=tests.tiny:run", "--workdir={}/run"],
        ["data", "augment", "--dataset=digits", "--split=test", "--max_examples=8", "--op=Flip()", "--out={}/copies"],
        ["preview", "--op=Flip()", "--rows=1", "--columns=2", "--out={}/sheet.png"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_names_the_place_that_it_cannot_write_to(run, tmp_path, arguments) -> None:
    (tmp_path / "file").write_text("")
    status, said = run(*(text.format(tmp_path / "file" / "folder") for text in arguments))
    assert status in (1, 2)
    assert (
        str(tmp_path / "file") in said
        and os.strerror(errno.ENOTDIR) in said
        and said.removeprefix("[tfaug] data\n").count("\n") == 1
    )


def test_errors_of_a_program_keep_their_traceback(run, command) -> None:
    for error in (tf.errors.InvalidArgumentError(None, None, "shapes"), ValueError("shapes"), ZeroDivisionError()):

        def fail(error=error) -> None:
            raise error

        command(fail)
        with pytest.raises(type(error)):
            run("try")


# --------------------------------------------------------------------------------------------------------- what is read


def damage(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture
def stored(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of a set of two files, below a folder of data sets."""
    return _store(tmp_path / "sets", "plain", {"train": _examples(9), "test": _examples(3)})


def record_file(folder: pathlib.Path) -> pathlib.Path:
    return next(folder.glob("plain-test.tfrecord-*"))


READ = {
    "damaged records": lambda folder: damage(record_file(folder)),
    "records cut short": lambda folder: record_file(folder).write_bytes(record_file(folder).read_bytes()[:-9]),
    "no records": lambda folder: record_file(folder).unlink(),
    "damaged index": lambda folder: (folder / "dataset_info.json").write_text("{"),
    "damaged features": lambda folder: (folder / "features.json").write_text("{"),
    "no features": lambda folder: (folder / "features.json").unlink(),
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("by", ["name", "folder"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_damaged_set_is_named_with_its_folder(stored, tmp_path, kind, by, cached) -> None:
    READ[kind](stored)
    with pytest.raises(ConfigError, match="plain") as caught:
        if by == "name":
            source = Tfds("plain", str(stored.parent.parent))
            load_test_set(source, cache_dir=tmp_path / "cache" if cached else None)
        else:
            load_data(DataConfig(Tfds(str(stored))), cache_dir=tmp_path / "cache" if cached else None)
    said = str(caught.value)
    assert str(stored.parent.parent) in said and "allowed: " in said and "\n" not in said


@pytest.mark.parametrize(
    ("spec", "folder", "parts"),
    [
        ("plain", "{}/no", ["{}/no", "does not exist; allowed: one that does"]),
        ("plain", "{}/sets/plain/1.0.0/features.json", ["features.json", "does not exist; allowed: one that does"]),
        ("plain:2.0.0", "{}/sets", ["'plain:2.0.0'", "{}/sets", "prepared there: 1.0.0"]),
        ("mnist:2.0.0", "{}/sets", ["'mnist:2.0.0'", "prepared there: 3.0.0"]),
        ("mnist:3.0.1", "{}/sets", ["'mnist:3.0.1'", "prepared there: 3.0.0"]),
        ("{}/sets/plain", "", ["{}/sets/plain"]),
    ],
)
def test_a_wrong_folder_or_version_is_named(stored, tmp_path, monkeypatch, spec, folder, parts) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("tensorflow_datasets.core.download.downloader._open_with_requests", refuse)
    _store(tmp_path / "sets", "mnist", {"train": _examples(9), "test": _examples(3)}, version="3.0.0")
    with pytest.raises(ConfigError) as caught:
        load_data(DataConfig(Tfds(spec.format(tmp_path), folder.format(tmp_path))))
    for part in parts:
        assert part.format(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_set_is_not_asked_for_again_and_again_where_there_is_no_network(
    tmp_path, monkeypatch, caplog
) -> None:
    slept: list[float] = []

    def no_network(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, "no network here")

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib3.util.connection.create_connection", no_network)
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    with pytest.raises(ConfigError, match=r"'mnist' is not in .* could not be downloaded .* no network here") as caught:
        load_data(DataConfig(Tfds("mnist", str(tmp_path))))
    assert "\n" not in str(caught.value)
    assert len(slept) <= 4 * 2 and sum(slept) < 4 * 2  # four files, each asked for three times
    assert "Retrying" not in caplog.text


def test_a_cache_that_cannot_be_written_stops_nothing(stored, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    split = load_test_set(Tfds("plain", str(stored.parent.parent)), cache_dir=tmp_path / "file" / "cache")
    assert len(split) == 3


def test_weights_that_cannot_be_read_are_named(run, command, tmp_path) -> None:
    path = tmp_path / "final.weights.h5"
    for content in (b"", b"no HDF5"):
        path.write_bytes(content)
        command(lambda: fit.load_weights(network(), path))
        status, said = run("try")
        assert status == 1 and str(path) in said and said.count("\n") == 1
    with pytest.raises(OSError, match=str(path)):
        fit.load_weights(network(), tmp_path / "absent" / path)


# ---------------------------------------------------------------------------------------------------- names as patterns


@pytest.mark.parametrize("name", PATTERNS)
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused_before_anything_is_made(run, tmp_path, name) -> None:
    """It trained before, and could then neither resume, nor export, nor evaluate."""
    for command in ("run", "train", "export", "serve", "evaluate", "report"):
        status, said = run(command, "--config=tests.tiny:run", f"--workdir={tmp_path / name}")
        assert status == 2 and "--workdir is " in said and "pattern" in said and "allowed: a path without" in said
    for call in (
        lambda: export_model(
            tmp_path / name / "m",
            None,
            bank_images=np.zeros([2, 4, 4, 3], np.uint8),
            config=tiny.run().export,
            choice=None,
            warmup_images=np.zeros([1, 4, 4, 3], np.uint8),
            image_shape=(4, 4, 3),
        ),
        lambda: load_exported(tmp_path / name),
    ):
        with pytest.raises(ConfigError, match="pattern"):
            call()
    lines: list[str] = []
    assert run_server([ModelSource("m", tmp_path / name)], ServerOptions(port=0, rest_api_port=0), lines.append) == 1
    assert len(lines) == 1 and "pattern" in lines[0] and "'m'" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_is_looked_at_from_the_root(tmp_path, monkeypatch) -> None:
    (tmp_path / "a[1]").mkdir()
    monkeypatch.chdir(tmp_path / "a[1]")
    with pytest.raises(ConfigError, match=r"a\[1\]/run"):
        Workdir("run")


@pytest.mark.parametrize("name", PATTERNS)
def test_sets_are_read_from_and_written_to_folders_of_any_name(tmp_path, name) -> None:
    folder = tmp_path / name
    stored = _store(folder, "plain", {"train": _examples(9), "test": _examples(3)})
    by_name, by_folder = load_test_set(Tfds("plain", str(folder))), load_data(DataConfig(Tfds(str(stored)))).test
    np.testing.assert_array_equal(by_name.images, by_folder.images)
    config = make_config("Flip(p=1.0)", DataConfig(Tfds(str(stored))), splits=("test",), name="flipped")
    written = write_copies(config, folder / "copies")
    rows = [row["image"] for row in tfds.load("flipped", data_dir=folder / "copies", split="test").as_numpy_iterator()]
    np.testing.assert_array_equal(sorted(map(np.sum, rows)), sorted(map(np.sum, by_name.images)))
    assert written.path.is_relative_to(folder)


def test_leftovers_of_a_name_like_a_pattern_are_its_own(tmp_path) -> None:
    for name in ("a[1]", "a1"):
        (tmp_path / f".partial-1-{name}").mkdir()
    with files.atomic_directory(tmp_path / "a[1]"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-1-a1", "a[1]"]


def test_the_servers_configuration_holds_a_path_of_any_name(tmp_path, monkeypatch) -> None:
    exports = {"first": str(tmp_path / 'a "quoted" name'), "second": str(tmp_path / "it's\nlong")}
    seen: list[ModelSource] = []

    def start(command: list[str]) -> types.SimpleNamespace:
        path = next(part for part in command if part.startswith("--model_config_file="))
        seen.extend(read_config_file(pathlib.Path(path.partition("=")[2])))
        return types.SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(experiment.subprocess, "Popen", start)
    monkeypatch.setattr(experiment, "_wait", lambda server: server.wait())
    experiment.FLAGS(["tfaug"])
    assert experiment._serve(exports) == 0
    assert {source.name: str(source.base_path) for source in seen} == exports


# ------------------------------------------------------------------------------------------------------- closed outputs


@contextlib.contextmanager
def closed_pipe(buffering: int = -1) -> Iterator[io.TextIOWrapper]:
    """A stream whose reader has gone; 1 writes line by line."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering) as stream:
        yield stream


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["fingerprint", "--op=Flip()", "--shape=2x8x8x3"], ["try"]],
    ids=lambda arguments: arguments[0],
)
def test_a_reader_who_has_gone_is_no_error(run, command, monkeypatch, arguments) -> None:
    if arguments == ["try"]:
        command(lambda: print("a line", flush=True))
    with closed_pipe() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert run(*arguments) == (141, "")
        stream.flush()  # as the interpreter does at its end


def test_a_complaint_that_nobody_reads_is_no_error_either(run, monkeypatch) -> None:
    with closed_pipe(buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert run("no command")[0] == 141
        stream.flush()


def write_to_a_socket() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        ours.sendall(b"a line")


def test_another_broken_pipe_than_that_of_an_output_is_one_line(run, command, monkeypatch) -> None:
    command(write_to_a_socket)
    status, said = run("try")
    assert status == 1 and said.startswith("tfaug: ") and said.count("\n") == 1
    assert os.strerror(errno.EPIPE) in said and "connection" in said and "free space" not in said
    with open("/dev/null", "w") as stream:  # an output with a descriptor
        monkeypatch.setattr(sys, "stdout", stream)
        assert run("try")[0] == 1


def test_an_output_on_a_full_disk_is_an_error(run, monkeypatch) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        status, said = run("--version")
    assert status == 1 and os.strerror(errno.ENOSPC) in said and "standard output" in said and said.count("\n") == 1


@pytest.mark.parametrize("module", ["tfaug.cli", "tfaug.serving"])
def test_help_into_a_closed_pipe_says_nothing(module) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tiny.ROOT
    )
    process.stdout.close()
    _, said = process.communicate()
    assert (process.returncode, said.decode()) == (141, "")


def test_a_server_goes_on_where_nobody_reads_its_log(monkeypatch) -> None:
    with closed_pipe() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log_line("loaded")
        log_line("SIGTERM: stopping")


@pytest.mark.parametrize("place", ["no/ports.json", "file/ports.json", "", "full/ports.json"])
def test_a_port_file_that_cannot_be_written_is_found_out_before_a_model_is_loaded(tmp_path, place) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").symlink_to("/proc/self")
    lines: list[str] = []
    options = ServerOptions(port=0, rest_api_port=0, port_file=tmp_path / place)
    assert run_server([ModelSource("m", tmp_path / "nowhere")], options, lines.append) == 1
    assert len(lines) == 1 and lines[0].startswith(f"error: cannot write the port file {tmp_path / place}: ")


def test_a_report_of_a_damaged_run_names_the_file(run, command, tmp_path) -> None:
    (tmp_path / "config.json").write_text("{")
    command(lambda: read_run(tmp_path))
    status, said = run("try")
    assert status == 2 and str(tmp_path / "config.json") in said and said.count("\n") == 1


def test_the_servers_command_ends_quietly_too(monkeypatch) -> None:
    with closed_pipe() as stream, pytest.raises(SystemExit) as caught:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(serving_main.app, "run", lambda main: print("help"))
        serving_main.run()
    assert caught.value.code == 141

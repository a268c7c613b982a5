"""SavedModels in memory: which versions to load, loading, warming up, finding and running them."""

from __future__ import annotations

import contextlib
import logging
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from .codec import conform, format_info, from_proto
from .errors import ServingError, invalid, status_code
from .stubs import meta_graph_pb2, model_pb2, model_server_config_pb2, prediction_log_pb2

import tensorflow as tf  # isort: skip  (after the stubs, which import it quietly)

DEFAULT_SIGNATURE = "serving_default"
MAX_WARMUP_RECORDS = 1000
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


class ModelLoadError(Exception):
    """A model that cannot be served; the message is one line for the operator."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: The name clients ask for.
        base_path: Folder of integer-named version folders.
        num_latest: How many of the highest versions to load; 0 loads all.
        versions: Load exactly these instead.
        labels: Label -> version, for clients that ask by label.
    """

    name: str
    base_path: Path
    num_latest: int = 1
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


def read_config_file(path: Path) -> list[ModelSource]:
    """Read a `model_config_list` text proto, the file tensorflow_model_server takes too.

    Args:
        path: The file.

    Returns:
        One source per entry, in the file's order.

    Raises:
        ModelLoadError: The file is missing, not such a proto, or names a model twice or without a folder.
    """
    try:
        config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise ModelLoadError(f"cannot read the model config file {path}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path} is not a model_config_list text proto: {error}") from None
    entries = config.model_config_list.config
    if not entries:
        raise ModelLoadError(f"{path} lists no model; expected model_config_list {{ config {{ name base_path }} }}")
    sources: list[ModelSource] = []
    for entry in entries:
        if not entry.name or not entry.base_path:
            raise ModelLoadError(f"{path}: every config needs a name and a base_path")
        if any(source.name == entry.name for source in sources):
            raise ModelLoadError(f"{path} names the model {entry.name!r} twice")
        if entry.model_platform not in ("", "tensorflow"):
            raise ModelLoadError(f"{path}: model_platform of {entry.name!r} must be 'tensorflow'")
        policy = entry.model_version_policy
        num_latest, versions = 1, tuple[int, ...]()
        match policy.WhichOneof("policy_choice"):
            case "latest":
                num_latest = policy.latest.num_versions or 1
            case "all":
                num_latest = 0
            case "specific":
                versions = tuple(policy.specific.versions)
        labels = dict(entry.version_labels)
        sources.append(ModelSource(entry.name, Path(entry.base_path), num_latest, versions, labels))
    return sources


def find_versions(source: ModelSource) -> dict[int, Path]:
    """Return the version folders to load, lowest first.

    Raises:
        ModelLoadError: The folder is missing, holds no version, or lacks one that was asked for; or TensorFlow would
            see a pattern in its path.
    """
    base = source.base_path
    if held := sorted(set(str(base)) & set("[]*?\\")):
        raise ModelLoadError(
            f"model {source.name!r}: in the base path {base} TensorFlow takes {' '.join(held)} for a pattern and would "
            "not find the variables; allowed: a path without [ ] * ? and backslash"
        )
    if not base.is_dir():
        raise ModelLoadError(f"model {source.name!r}: the base path {base} is not a folder")
    found = {
        int(entry.name): entry for entry in base.iterdir() if re.fullmatch("[0-9]+", entry.name) and entry.is_dir()
    }
    if not found:
        hint = f"; it is a SavedModel itself, so move it to {base / '1'}" if (base / "saved_model.pb").exists() else ""
        raise ModelLoadError(f"model {source.name!r}: {base} holds no integer-named version folder{hint}")
    if source.versions:
        missing = sorted(set(source.versions) - set(found))
        if missing:
            raise ModelLoadError(f"model {source.name!r}: {base} has the versions {sorted(found)}, not {missing}")
        chosen = sorted(set(source.versions))
    else:
        chosen = sorted(found)[-source.num_latest :] if source.num_latest else sorted(found)
    unloaded = {label: number for label, number in source.labels.items() if number not in chosen}
    if unloaded:
        raise ModelLoadError(f"model {source.name!r}: labels may name loaded versions {chosen} only, got {unloaded}")
    return {version: found[version] for version in chosen}


class LoadedModel:
    """One version of one model, ready to run. Safe to call from many threads."""

    def __init__(self, name: str, version: int, path: Path) -> None:
        """Load the SavedModel; variables are restored and the model's initialisers run.

        A graph session is used rather than `tf.saved_model.load`: it is what tensorflow_model_server does, takes a time
        limit for each run, computes the asked outputs only, and has less overhead per call.

        Raises:
            ModelLoadError: The folder holds no readable SavedModel with the tag 'serve'.
        """
        self.name, self.version, self.path = name, version, path
        options = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        options.gpu_options.allow_growth = True  # a server often shares its GPU
        self._graph = tf.Graph()
        try:
            with _quiet_tensorflow_logger():
                self._session = tf.compat.v1.Session(graph=self._graph, config=options)
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        except (OSError, RuntimeError, ValueError, DecodeError, tf.errors.OpError) as error:
            raise ModelLoadError(f"model {name!r}: cannot load {path}: {first_line(error)}") from None
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {
            key: signature
            for key, signature in sorted(meta_graph.signature_def.items())
            if not key.startswith("__saved_model_")  # initialisers, not for clients
        }
        if not self.signatures:
            raise ModelLoadError(f"model {name!r}: {path} has no serving signature")

    def signature(self, key: str) -> tuple[str, meta_graph_pb2.SignatureDef]:
        """Return the resolved key ('' means 'serving_default') and its definition.

        Raises:
            ServingError: FAILED_PRECONDITION where the model has no such signature.
        """
        key = key or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{key}" not found. Model {self.name!r} version {self.version} has: '
                f"{', '.join(self.signatures)}.",
            )
        return key, self.signatures[key]

    def run(
        self,
        key: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            key: Signature name; '' means 'serving_default'.
            inputs: Input name -> array of the signature's type and shape (uint8 is taken for float32).
            output_filter: Outputs to compute; empty means all.
            timeout_s: Seconds the run may take; None for no limit.

        Returns:
            Output name -> array.

        Raises:
            ServingError: With the code TensorFlow Serving uses for the case.
        """
        key, signature = self.signature(key)
        feeds = self._feeds(key, signature, inputs)
        # The session keeps one executor per order of fetches, so the order is always the sorted one.
        names = sorted(_chosen_outputs(key, signature, output_filter))
        options = None
        if timeout_s is not None:
            if timeout_s <= 0:
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the model ran")
            options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(min(timeout_s, 86400.0) * 1000)))
        try:
            fetches = [self._tensor(signature.outputs[name]) for name in names]
            values = self._session.run(fetches, feeds, options=options)
        except tf.errors.OpError as error:
            raise ServingError(status_code(error.error_code), first_line(error)) from None
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """Free the model's memory."""
        self._session.close()

    def _tensor(self, info: meta_graph_pb2.TensorInfo) -> tf.Tensor:
        """Return the graph's tensor for a signature's."""
        if info.WhichOneof("encoding") != "name":
            raise ServingError(grpc.StatusCode.UNIMPLEMENTED, "sparse and composite tensors are not served")
        return self._graph.get_tensor_by_name(info.name)

    def _feeds(
        self, key: str, signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]
    ) -> dict[tf.Tensor, np.ndarray]:
        """Check the inputs against the signature and pair them with the graph's tensors."""
        extra = sorted(set(inputs) - set(signature.inputs))
        missing = sorted(set(signature.inputs) - set(inputs) - set(signature.defaults))
        if extra or missing:
            allowed = ", ".join(f"{name}: {format_info(info)}" for name, info in sorted(signature.inputs.items()))
            raise invalid(
                f"inputs do not match the signature {key!r}. Sent: {_names(inputs)}. Sent extra: {_names(extra)}. "
                f"Missing but required: {_names(missing)}. Allowed: {{{allowed}}}."
            )
        feeds = {}
        for name, info in signature.inputs.items():
            array = (
                inputs[name] if name in inputs else from_proto(signature.defaults[name], name=f"default of {name!r}")
            )
            feeds[self._tensor(info)] = conform(array, info, name)
        return feeds


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    """Write a set of names."""
    return "{" + ", ".join(sorted(names)) + "}"


def _chosen_outputs(key: str, signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Resolve an output filter."""
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name}. "
                f"Outputs of {key!r} expected to be in the set {_names(list(signature.outputs))}."
            )
    if len(set(output_filter)) != len(output_filter):
        raise invalid(f"duplicate output tensor alias in the output filter: {', '.join(output_filter)}")
    return list(output_filter) or list(signature.outputs)


class ModelTable:
    """All loaded models, by name and version."""

    def __init__(self, models: Sequence[LoadedModel], labels: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._models: dict[str, dict[int, LoadedModel]] = {}
        for model in models:
            self._models.setdefault(model.name, {})[model.version] = model
        self._labels = labels or {}

    def find(self, name: str, version: int | None = None, label: str = "") -> LoadedModel:
        """Return a model: a version, the one with a label, or the highest.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version; INVALID_ARGUMENT for an unknown label or no name.
        """
        if not name:
            raise invalid("the request names no model: set model_spec.name")
        versions = self._models.get(name, {})
        if label:
            known = self._labels.get(name, {})
            if label not in known:
                raise invalid(f"Unrecognized servable version label: {label}. Allowed: {', '.join(known) or 'none'}.")
            version = known[label]
        if version is None:
            if not versions:
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})")
            return versions[max(versions)]
        if version not in versions:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})"
            )
        return versions[version]

    def find_spec(self, spec: model_pb2.ModelSpec) -> LoadedModel:
        """Return the model that a request's spec names."""
        version = spec.version.value if spec.HasField("version") else None
        return self.find(spec.name, version, spec.version_label)

    def versions(self, name: str, version: int | None = None, label: str = "") -> list[LoadedModel]:
        """Return the loaded versions of a model, highest first, or the one asked for.

        Raises:
            ServingError: NOT_FOUND where there is none.
        """
        if not name:
            raise invalid("the request names no model: set model_spec.name")
        if label:
            return [self.find(name, label=label)]
        loaded = self._models.get(name, {})
        if version is not None:
            if version not in loaded:
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
            return [loaded[version]]
        if not loaded:
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        return [loaded[number] for number in sorted(loaded, reverse=True)]

    def close(self) -> None:
        """Free all models."""
        for versions in self._models.values():
            for model in versions.values():
                model.close()


def load_models(sources: Sequence[ModelSource], log: Callable[[str], None]) -> ModelTable:
    """Load and warm up every version that the sources choose.

    Args:
        sources: The models.
        log: Takes one line for each version loaded.

    Raises:
        ModelLoadError: A model is missing or corrupt, or its warm-up failed.
    """
    chosen = [(source, find_versions(source)) for source in sources]  # all typing errors before any slow load
    models = []
    for source, versions in chosen:
        for version, path in versions.items():
            start = time.monotonic()
            model = LoadedModel(source.name, version, path)
            num_warmups = warm_up(model)
            warmed = f", {num_warmups} warm-up requests" if num_warmups else ""
            log(f"loaded {source.name} version {version} in {time.monotonic() - start:.1f} s{warmed}")
            models.append(model)
    return ModelTable(models, {source.name: source.labels for source in sources})


def warm_up(model: LoadedModel) -> int:
    """Send a model its saved requests, so that no client pays for first-call work.

    Args:
        model: A loaded model; the file is `assets.extra/tf_serving_warmup_requests`, TFRecords of PredictionLog.

    Returns:
        How many requests ran; 0 without a file.

    Raises:
        ModelLoadError: The file is corrupt, holds more than 1,000 records or another kind of request, or one fails.
    """
    path = model.path / WARMUP_FILE
    if not path.exists():
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            if count == MAX_WARMUP_RECORDS:
                raise ModelLoadError(f"model {model.name!r}: {path} holds more than {MAX_WARMUP_RECORDS} records")
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise ModelLoadError(f"model {model.name!r}: {path} record {count} is a {kind}, expected a predict_log")
            request = log.predict_log.request
            inputs = {name: from_proto(proto, name=f"input {name!r}") for name, proto in request.inputs.items()}
            model.run(request.model_spec.signature_name, inputs, list(request.output_filter))
            count += 1
    except (tf.errors.OpError, DecodeError, struct.error) as error:
        raise ModelLoadError(f"model {model.name!r}: {path} is corrupt: {first_line(error)}") from None
    except ServingError as error:
        raise ModelLoadError(f"model {model.name!r}: warm-up request {count} of {path} failed: {error}") from None
    return count


def first_line(error: BaseException) -> str:
    """Return what an error says without TensorFlow's multi-line account of the graph."""
    if isinstance(error, tf.errors.OpError) and isinstance(error.__context__, tf.errors.OpError):
        error = error.__context__  # the session raises a second error, which wraps the message in the graph's story
    text = getattr(error, "message", None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _quiet_tensorflow_logger() -> Iterator[None]:
    """Drop the deprecation note about graph sessions, which are used here on purpose."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

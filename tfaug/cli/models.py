"""`tfaug models`: the table of models, with what each costs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from absl import flags

from tfaug import files, startup
from tfaug.config import ConfigError, near_name

COMMANDS = {"models": "print the models by their names, with their parameters and the FLOPs of one image"}

USAGE = "tfaug models [--image=HxWxC] [--classes=K] [--model=MODEL] [--json=FILE]"
EXAMPLE = 'tfaug models --image=32x32x3 --classes=100 --model=resnet20 --model="WideResNet(16, 4)"'

FLAGS = flags.FlagValues()
flags.DEFINE_string("image", "32x32x3", "height, width and channels of an image", flag_values=FLAGS)
flags.DEFINE_integer("classes", 10, "how many", flag_values=FLAGS)
flags.DEFINE_multi_string(
    "model",
    [],
    "a name of the table, or a model as in Python; may be repeated; all names if not given",
    flag_values=FLAGS,
)
flags.DEFINE_string("json", "", "a file for the rows", flag_values=FLAGS)


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags and prints a Markdown table, a line as soon as it is known.

    Args:
      command: `models`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done.

    Raises:
      ConfigError, absl.flags.Error: if a flag is wrong.
      OSError: if the file cannot be written.
    """
    FLAGS.unparse_flags()  # nothing is left of an earlier call in this process
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", FLAGS.image):
        raise ConfigError(f"--image is {FLAGS.image!r}; allowed: HEIGHTxWIDTHxCHANNELS, as 32x32x3")
    startup.import_tensorflow()
    startup.use_devices()

    from tfaug.experiment import CLASSES
    from tfaug.expressions import read_value
    from tfaug.models import MODELS, Model
    from tfaug.models.cost import cost_of

    models: dict[str, Model] = {}
    for text in FLAGS.model or MODELS:
        model = MODELS.get(text) or (read_value(text, CLASSES, "--model") if "(" in text else None)
        if not isinstance(model, Model):
            known = ", ".join(MODELS)
            raise ConfigError(
                f"--model is {text!r}{near_name(text, MODELS)}; allowed: a call, as ResNet(20), or {known}"
            )
        models[text] = model
    image_shape = tuple(int(size) for size in FLAGS.image.split("x"))
    rows = []
    width = max(map(len, ["model", *models]))
    print(f"| {'model':<{width}} | {'parameters':>11} | {'FLOPs per image':>15} |\n| --- | ---: | ---: |")
    for name, model in models.items():
        parameters, flops = cost_of(model, image_shape, FLAGS.classes)
        rows.append({"name": name, "parameters": parameters, "flops_per_image": flops})
        print(f"| {name:<{width}} | {parameters:>11,} | {flops:>15,} |", flush=True)
    if FLAGS.json:
        files.write_json(FLAGS.json, rows)
    return 0

"""Experiments: one file per study, each function returns a typed `tfaug.experiment.Experiment`."""

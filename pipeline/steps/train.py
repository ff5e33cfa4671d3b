"""Step `train`: data to weights."""

from __future__ import annotations

from pipeline.step import Job, Step, dataset_file, model_file

STEP = Step(
    name="train",
    sections=("task", "data", "preprocess", "model", "fit"),
    outputs=("weights.safetensors", "losses.safetensors", "meta.json"),
    sources=lambda recipe: (model_file(recipe), dataset_file(recipe)),
    reads_data=True,
    on_device=True,
)


def run(job: Job) -> str:
    """Train, select on the validation split, measure once on the test split, save."""
    from recipes.errors import TrainError
    from train.checkpoint import outputs_of, save_checkpoint
    from train.data import fit_preprocess, inputs_of, open_dataset, targets_of
    from train.fit import fit, set_determinism
    from train.metrics import evaluate
    from train.model import build_model

    recipe = job.recipe
    set_determinism(recipe.fit.seed, recipe.fit.threads)
    splits = open_dataset(recipe)
    samples, spec = splits.samples, fit_preprocess(recipe, splits)
    training, validation, test = (
        (inputs_of(samples, indices, spec), targets_of(samples, indices, spec))
        for indices in (splits.train, splits.validation, splits.test)
    )
    model = build_model(recipe, spec.shape, outputs_of(splits))
    fitted = fit(model, training, validation, recipe, job.progress)
    tested = evaluate(fitted.model, *test, recipe.task)
    metric, reached = next(iter(tested.metrics.items()))
    wanted = recipe.fit.minimum_metric
    # Written so that NaN does not pass.
    if wanted is not None and not reached >= wanted:
        raise TrainError(
            f"{metric} on the test split is {reached:.4f}, below [fit] minimum_metric = {wanted:g}"
        )
    save_checkpoint(fitted, tested, spec, splits, recipe, job.out)
    return f"{metric} {reached:.4f} on {len(splits.test)} test samples"

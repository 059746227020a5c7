"""A Beam runner that calls the steps of a pipeline one after the other, for thousands of builds.

Beam's own local runner takes more than a second for any pipeline. This one takes milliseconds:
``--runner=tests.eager_runner.EagerRunner``. Nothing is encoded, and elements keep their order; so
it tests what the steps compute, and not whether their elements survive a shuffle.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.pvalue import AsIter, PCollection, TaggedOutput
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms.util import Reshuffle


class EagerRunner(PipelineRunner):
    """Runs a pipeline of bounded data in this thread; the exceptions of steps are not wrapped."""

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        """Expands a transform, except those that this runner runs as a whole."""
        if isinstance(transform, beam.Create | Reshuffle):
            return PCollection(input.pipeline)
        return super().apply(transform, input, options)

    def is_fnapi_compatible(self) -> bool:
        """Returns True, so that Beam does not encode the pipeline before the run."""
        return True

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        """Runs all steps in the order in which they were applied, that of their inputs."""
        run = _Run()
        pipeline.visit(run)
        return _Done(PipelineState.DONE)


class _Done(PipelineResult):
    def wait_until_finish(self, duration: int | None = None) -> str:
        return self.state


class _Run(PipelineVisitor):
    """The elements of each collection so far."""

    def __init__(self) -> None:
        self._elements: dict[PCollection, list[Any]] = {}

    def visit_transform(self, node: AppliedPTransform) -> None:
        """Runs a transform without parts of its own."""
        transform, inputs = (
            node.transform,
            [self._elements.get(i, []) for i in node.main_inputs.values()],
        )
        outputs: dict[Any, list[Any]] = {tag: [] for tag in node.outputs}
        match transform:
            case beam.Create():
                outputs[None] = list(transform.values)
            case Reshuffle() | beam.Flatten():
                outputs[None] = [element for elements in inputs for element in elements]
            case beam.GroupByKey():
                groups: dict[Any, list[Any]] = {}
                for key, value in inputs[0]:
                    groups.setdefault(key, []).append(value)
                outputs[None] = list(groups.items())
            case beam.ParDo():
                for tag, element in self._results(transform, inputs[0]):
                    outputs[tag].append(element)
            case _:
                raise NotImplementedError(f"{node.full_label}: {type(transform)}")
        for tag, collection in node.outputs.items():
            self._elements[collection] = outputs[tag]

    def _results(self, step: beam.ParDo, elements: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yields tag and element of all results of a step."""
        assert all(type(side_input) is AsIter for side_input in step.side_inputs)
        side_inputs = [self._elements[side_input.pvalue] for side_input in step.side_inputs]
        do_fn = step.fn
        do_fn.setup()
        for element in elements:
            for result in do_fn.process(element, *side_inputs) or ():
                if isinstance(result, TaggedOutput):
                    yield result.tag, result.value
                else:
                    yield None, result
        do_fn.teardown()

"""Great Expectations itself: imported late and without what the suites do not use, run in memory, silent."""

import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.trajectories.gates.suites import Check

if TYPE_CHECKING:
    import pandas

UNUSED = ("altair", "scipy.stats")
"""Imported by Great Expectations for charts and statistical tests. They are two fifths of its start (3 of 8 s)."""


class _Lazy(MetaPathFinder):
    """Finds modules so that they are executed when one of their names is first used."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def _lazily(*names: str) -> Iterator[None]:
    finder = _Lazy(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def great_expectations() -> Any:
    """The library, with its usage reports off: it decides at import."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with _lazily(*UNUSED):
        import great_expectations
    return great_expectations


def validate(
    gate: str, frames: Mapping[str, "pandas.DataFrame"], names: Mapping[str, Sequence[str]], notes: Mapping[str, str],
    checks: Sequence[Check], pages: Path | None,
) -> list[tuple[Check, dict[str, Any]]]:  # fmt: skip
    """Result of each check, in order.

    names: per frame, the columns that name a row. notes: a line for each frame's page. pages: folder for the data docs.
    """
    library = great_expectations()
    context = library.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    context.delete_data_docs_site("local_site")  # it would be written to the system's temporary folder and stay there
    source = context.data_sources.add_pandas(gate)
    results: list[tuple[Check, dict[str, Any]]] = []
    for frame_name, frame in frames.items():
        own = [check for check in checks if check.frame == frame_name]
        if not own:
            continue
        suite = context.suites.add(library.ExpectationSuite(name=f"{gate}-{frame_name}", notes=notes[frame_name]))
        for check in own:
            expectation = getattr(library.expectations, check.expectation)
            suite.add_expectation(expectation(**check.arguments, description=check.says))
        whole = source.add_dataframe_asset(name=frame_name).add_batch_definition_whole_dataframe(frame_name)
        definition = library.ValidationDefinition(name=f"{gate}-{frame_name}", data=whole, suite=suite)
        shape = {"result_format": "COMPLETE", "unexpected_index_column_names": list(names[frame_name])}
        definition = context.validation_definitions.add(definition)
        found = definition.run(batch_parameters={"dataframe": frame}, result_format=shape)
        # Not by position: results of expectations that could not be checked come first.
        by_words = {r["expectation_config"]["description"]: r for r in (r.to_json_dict() for r in found.results)}
        results += [(check, by_words[check.says]) for check in own]
    if pages is not None:
        _write_pages(context, pages)
    return results


def _write_pages(context: Any, folder: Path) -> None:
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": backend}
    context.add_data_docs_site(site_name="pages", site_config=site)
    context.build_data_docs(site_names=["pages"])
    # Pictures of a tutorial, 3 MB that no page shows; and a logo, fetched from the makers' server with a time stamp.
    for picture in folder.glob("static/images/*.gif"):
        picture.unlink()
    for page in [*folder.rglob("*.html"), *folder.rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"https://great-expectations-web-assets[^\"')]*", "data:,", text), encoding="utf-8")

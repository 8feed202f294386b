"""``scripts/benchmark NAME|all [--json]``."""

import argparse
import json
import sys

from fedfm.errors import FedFMError
from scripts.benchmarks.registry import BENCHMARKS
from scripts.benchmarks.result import document, keep, page
from scripts.engine.federation import PROJECT

FOLDER = PROJECT / "benchmarks"


def main() -> int:
    """Measure, keep the figures and write the page; return 0 if it could be measured, whatever came out."""
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark",
        description="Measure what docs/benchmarks.md claims. Figures are kept in benchmarks/NAME.json.",
        epilog="\n".join(f"{name}: {benchmark.what}" for name, (benchmark, _) in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*BENCHMARKS, "all"], help="what to measure")
    parser.add_argument("--json", action="store_true", help="print each result as one JSON object on a last line")
    arguments = parser.parse_args()
    names = list(BENCHMARKS) if arguments.name == "all" else [arguments.name]
    for name in names:
        benchmark, measure = BENCHMARKS[name]
        try:
            found = document(benchmark, measure())
        except FedFMError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        keep(found, FOLDER)
        (PROJECT / "docs" / "benchmarks.md").write_text(page(FOLDER), encoding="utf-8")
        print(json.dumps(found, ensure_ascii=False) if arguments.json else _plain(found))
    return 0


def _plain(found: dict[str, dict[str, float]]) -> str:
    return "\n".join(f"{found['benchmark']}  {name} = {figure:.4g}" for name, figure in found["figures"].items())


if __name__ == "__main__":
    sys.exit(main())

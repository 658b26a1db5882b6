"""The whole comparison: plan, jobs, report."""

import shutil
import sys
from pathlib import Path

from speechssl.compare.corpus import Corpus, read_written
from speechssl.compare.jobs import check_same_comparison, last_sentence, others_there
from speechssl.compare.page import verdict_sentences, write_page
from speechssl.compare.plan import Plan
from speechssl.compare.pool import Pool
from speechssl.compare.summary import summarize
from speechssl.compare.table import markdown, write_json
from speechssl.compare.work import DATA
from speechssl.training.runfolder import run_lock

REPORT, JSON = "report.html", "compare.json"


def compare(plan: Plan, out: Path, pool: Pool | None = None) -> int:
    """Do what is left of a comparison and write its report: 0, or 1 where a job failed.

    Raises ValueError, with nothing changed, where another comparison lies in `out`, and
    BusyRunError where one is at work there.
    """
    with run_lock(out):
        check_same_comparison(out, plan.jobs)
        _keep_data(plan.corpus, out / DATA)
        if others := others_there(out, plan.jobs):
            print(
                f"{out} holds {len(others)} jobs that this command does not ask for, and that are "
                f"not shown ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}).",
                file=sys.stderr,
            )
        failed = (pool or Pool(out, plan.num_processes)).run(plan.jobs)
        return _report(plan, out, failed)


def _keep_data(corpus: Corpus, folder: Path) -> None:
    """The manifests of the jobs, written anew where the recordings have moved."""
    if not (folder / "test.jsonl").exists() or read_written(folder).sets != corpus.sets:
        shutil.rmtree(folder, ignore_errors=True)
        corpus.write(folder)


def _report(plan: Plan, out: Path, failed: dict[str, str]) -> int:
    summary = summarize(plan, out, failed)
    if summary is not None:
        write_json(summary, out / JSON)
        write_page(summary, out / REPORT)
        print(markdown(summary), end="\n\n")
        print("\n".join(verdict_sentences(summary)), end="\n\n")
        print(f"Report: {out / REPORT}\nNumbers: {out / JSON}")
    first = next((name for name in failed if not failed[name].startswith("not begun")), "")
    if not failed:
        return 0
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    print(
        f"speechssl: {first}{more} failed: {last_sentence(out, first)} The same command tries "
        "again.",
        file=sys.stderr,
    )
    return 1

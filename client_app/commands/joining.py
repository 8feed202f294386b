"""``fedfm-site init``: a hospital joins a federation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client_app.commands.console import friendly
from fedfm.console import say

if TYPE_CHECKING:
    from client_app.joining.answers import Answers
    from client_app.joining.folder import Joined

_NEXT = """
Next, in that folder, with site.compose.yaml of this release copied into it:
  docker compose run --rm {doctor}
  docker compose run --rm doctor-network
  docker compose up -d --wait"""

_HAND_OVER = """
This user may not give files away, and the containers have users of their own. Once, as root:
  chown {owner} {folder}/node.key {folder}/superexec.secret"""


def init(  # noqa: PLR0913 - options of a command
    folder: Annotated[Path, typer.Argument(help="The hospital's new folder.")] = Path("hospital"),
    *,
    id: Annotated[str | None, typer.Option(help="Short name, as the coordinator will know it.")] = None,
    display_name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    table: Annotated[str | None, typer.Option(help="The patients' table, .csv, .csv.gz or .parquet.")] = None,
    data_folder: Annotated[str | None, typer.Option(help="Folder of the table on the host of the containers.")] = None,
    patient: Annotated[str | None, typer.Option(help="Column with the patient's identifier.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the outcome.")] = None,
    label_map: Annotated[str | None, typer.Option(help="Its values in the study's words: 0=alive,1=died")] = None,
    loader: Annotated[str | None, typer.Option(help="What a model reads: text, columns or template.")] = None,
    reads: Annotated[
        str | None, typer.Option(help="Column of the note, the columns with commas between, or the template.")
    ] = None,
    sex: Annotated[str | None, typer.Option(help="Column with the sex; '' for none.")] = None,
    sex_values: Annotated[str | None, typer.Option(help="Its values' groups: F=female,M=male")] = None,
    age: Annotated[str | None, typer.Option(help="Column with the age in years; '' for none.")] = None,
    declared_patients: Annotated[str | None, typer.Option(help="Training patients, rounded; public.")] = None,
    coordinator: Annotated[str | None, typer.Option(help="The coordinator, host:port.")] = None,
    authority: Annotated[str | None, typer.Option(help="The coordinator's ca.crt.")] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with models, each in a folder of its own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda for a GPU.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take what is proposed without asking; for scripts.")] = False,
) -> None:
    """Make the folder of a hospital's containers: site file, policy, node key, secret; and say what to send.

    Asks what no option answers. The table is read for the kinds of its columns; no patient's value is shown, and
    nothing is sent. An existing folder is never overwritten.

    Example: fedfm-site init hospital-a --table /srv/cohort/cohort.csv --coordinator fl.example.org:9092
    """
    from client_app.joining.folder import require_free, write_folder  # noqa: PLC0415 - Hydra
    from client_app.joining.interview import Given, interview  # noqa: PLC0415 - pandas
    from client_app.joining.questions import Asking  # noqa: PLC0415

    with friendly():
        require_free(folder)
        given = Given(
            **{"id": id, "display_name": display_name, "table": table, "data_folder": data_folder},
            **{"patient": patient, "label": label, "label_map": label_map, "loader": loader, "reads": reads},
            **{"sex": sex, "sex_values": sex_values, "age": age, "declared_patients": declared_patients},
            **{"coordinator": coordinator, "authority": authority, "weights": weights, "device": device},
        )
        asking = Asking(person=sys.stdin.isatty(), accept=yes)
        said = interview(given, asking, propose_id=folder.name)
        for line in _summary(said):
            say(line)
        if not asking.confirm(f"Write {folder}?"):
            raise typer.Exit(1)
        _tell(write_folder(folder, said), said)


def _summary(said: "Answers") -> list[str]:
    """Return what was understood; columns by name, label values only where a person or the rule of eleven gave them."""
    words = ", ".join(f"{value} is {word}" for value, word in said.label_map.items())
    return [
        "",
        f"  site       {said.id}, about {said.declared_patients} training patients",
        f"  table      {said.table} in {said.data_folder}; patients by {said.patient}",
        f"  outcome    {said.label}: {words}",
        f"  reads      {said.loader}: {said.reads}",
        f"  groups     {', '.join(filter(None, (said.sex if said.sex_words else '', said.age))) or 'none'}",
        f"  reaches    {said.coordinator}",
        "",
    ]


def _tell(joined: "Joined", said: "Answers") -> None:
    from client_app.joining.folder import GROUP, MODES, SUPERNODE  # noqa: PLC0415 - as above

    say(f"Written to {joined.folder}: {', '.join(MODES)}")
    say("\nSend the coordinator site.pub and your id; neither is secret. The key in node.key never leaves this host.")
    say(f"  id           {said.id}")
    say(f"  site.pub     {joined.public_key}")
    say(f"  fingerprint  {joined.fingerprint}   (compare it by telephone)")
    if not joined.owned:
        say(_HAND_OVER.format(owner=f"{SUPERNODE}:{GROUP}", folder=joined.folder))
    say(_NEXT.format(doctor="doctor-gpu" if said.device == "cuda" else "doctor"))

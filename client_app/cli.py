"""``fedfm-site``: what a hospital's IT and data-protection officer call.

What needs torch is imported by the command that needs it: joining a federation goes where there is no torch.
"""

import typer

from fedfm.offline import go_offline

go_offline()  # what is imported below reads the environment then

from client_app.commands import auditing
from client_app.commands.approving import approve, withdraw
from client_app.commands.checking import check
from client_app.commands.examining import doctor
from client_app.commands.joining import init
from client_app.commands.log_reading import read_log
from client_app.commands.privacy import audit_privacy, budget, privacy_report
from client_app.commands.reasons import compare, explain
from client_app.commands.tunnelling import tunnel

app = typer.Typer(
    help="A hospital's side of fedfm: join, examine the site, approve studies, see the privacy budget, verify the log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command()(tunnel)
app.command()(check)
app.command()(doctor)
app.command("read-log")(read_log)
app.command()(approve)
app.command()(withdraw)
app.command()(budget)
app.add_typer(auditing.app, name="audit")
app.command()(compare)
app.command()(explain)
app.command("privacy-report")(privacy_report)
app.command("audit-privacy")(audit_privacy)

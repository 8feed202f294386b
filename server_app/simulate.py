"""A whole federation in one process: the same ServerApp and ClientApps, unmodified, without a network.

Flower's own simulation starts Ray actors; this Grid calls the ClientApp directly and passes every message
through its protobuf form, so that nothing is shared by accident that a network would not share.
"""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedfm.config.compose import load_site
from fedfm.errors import ConfigError, EngineError

SERVER_APP = "server_app.app:app"
CLIENT_APP = "client_app.app:app"
_RUN_ID = 1
_COORDINATOR = 1


class InProcessGrid(Grid):
    """Flower's Grid over ClientApps in this process; a message is answered when its reply is pulled.

    Args:
        client_app: The app that every site runs.
        sites: Site name to the path of its site file.
    """

    def __init__(self, client_app: ClientApp, sites: Mapping[str, Path]) -> None:
        self._app = client_app
        self._run = Run.create_empty(_RUN_ID)
        self._names = dict(enumerate(sorted(sites), start=_COORDINATOR + 1))
        self._contexts = {
            node_id: Context(
                run_id=_RUN_ID,
                node_id=node_id,
                node_config={"site-config": str(sites[name])},
                state=RecordDict(),
                run_config={},
            )
            for node_id, name in self._names.items()
        }
        self._sent: dict[str, Message] = {}
        self._count = 0
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, _COORDINATOR, 1

    def set_run(self, run: Run) -> None:
        """Set the run; Flower's interface asks for it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message; Flower's interface asks for it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node of each site."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return each node with its site's name, as a registered one has it."""
        return [NodeInfo(node_id=node_id, name=name, status="online") for node_id, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the messages until their replies are pulled."""
        ids = []
        for message in messages:
            self._count += 1
            message_id = f"message-{self._count}"
            self._sent[message_id] = _crossed(message, message_id)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let each site answer, one after the other, as the replies are taken."""
        return (self._answer(self._sent.pop(message_id)) for message_id in message_ids if message_id in self._sent)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Let every site answer; nothing in one process can be late, so ``timeout`` has no effect."""
        return list(self.pull_messages(self.push_messages(messages)))

    def _answer(self, message: Message) -> Message:
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as problem:  # as Flower's own runtime does: the site fails, the federation does not
            return Message(Error(2, type(problem).__name__), reply_to=message)
        return _crossed(reply, f"reply-to-{message.metadata.message_id}")


def _crossed(message: Message, message_id: str) -> Message:
    """Return the message as it is after a network: another object, of the same bytes."""
    metadata = message.metadata
    metadata.__dict__["_message_id"] = message_id
    if message.has_error():
        return Message(error=message.error, metadata=metadata)  # type: ignore[call-overload, no-any-return]
    content = recorddict_from_proto(recorddict_to_proto(message.content))
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]


def find_sites(folder: Path, *, site_file: str) -> dict[str, Path]:
    """Return the sites below a folder: the id of each sub-folder that holds ``site_file``, and the file.

    A site file that cannot be read counts under its folder's name; it is the site that refuses then, with the reason.

    Raises:
        ConfigError: There is none, or two have one id.
    """
    files = sorted(folder.glob(f"*/{site_file}"))
    found: dict[str, Path] = {}
    for path in files:
        name = _site_id(path)
        if name in found:
            where = f"{found[name]} and {path}"
            raise ConfigError("STUDY-E074", f"two sites with the id {name}", where=where, fix="change one of them")
        found[name] = path.resolve()
    if not found:
        raise ConfigError(
            "STUDY-E073",
            f"no sites: no folder with a {site_file}",
            where=str(folder),
            found="nothing" if folder.is_dir() else "no such folder",
            fix="make some with 'fedfm-study make-demo-data DIR', or name the file with --site-file",
        )
    return found


def _site_id(path: Path) -> str:
    try:
        return load_site(path).id
    except ConfigError:
        return path.parent.name


def simulate(sites: Mapping[str, Path], *, overrides: Sequence[str], results: Path, resume: str = "") -> None:
    """Run the study over the sites in this process.

    Args:
        sites: Site name to the path of its site file.
        overrides: As ``compose_study`` takes them; all sites take part unless ``sites=[...]`` is one.
        results: Where the run's folder is made.
        resume: Name of an interrupted run in ``results`` that goes on instead; its study is the run's.

    Raises:
        FedFMError: The study could not be composed, or the run failed.
    """
    server_app: ServerApp = load_app(SERVER_APP, EngineError)
    client_app: ClientApp = load_app(CLIENT_APP, EngineError)
    everyone = f"sites=[{','.join(sorted(sites))}]"
    changes = list(overrides)
    if not resume and not any(change.startswith("sites=") for change in overrides):
        changes.insert(0, everyone)
    context = Context(
        run_id=_RUN_ID,
        node_id=_COORDINATOR,
        node_config={},
        state=RecordDict(),
        # beside the sites, whose ledgers it remembers: other sites of the same names are other ones
        run_config={
            "overrides": shlex.join(changes),
            "results": str(results),
            "resume": resume,
            "memory": _around(sites.values()),
        },
    )
    server_app(InProcessGrid(client_app, sites), context)


def _around(files: Iterable[Path]) -> str:
    """Return the folder that holds the folders of all site files."""
    return os.path.commonpath([path.resolve().parent.parent for path in files])

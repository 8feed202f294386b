"""The ClientApp: passes a request to the trainer and its answer back, and lets nothing else out."""

from collections.abc import Callable
from dataclasses import replace

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app.trainer.connect import AnyTrainer, connect
from client_app.trainer.incidents import as_refusal
from fedfm import wire_records
from fedfm.wire import REFUSED, Request

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Answer who this site is and that it can take part."""
    return _answer(
        message, context, lambda trainer, asked: wire_records.description_to_records(trainer.describe(asked))
    )


@app.query("summarise")
def summarise(message: Message, context: Context) -> Message:
    """Answer with sums over training patients, before round 1."""
    return _answer(
        message, context, lambda trainer, asked: wire_records.summarise_reply_to_records(trainer.summarise(asked))
    )


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the update of one round."""
    return _answer(message, context, lambda trainer, asked: wire_records.train_reply_to_records(trainer.train(asked)))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer with sums over test and audit patients."""
    return _answer(
        message, context, lambda trainer, asked: wire_records.evaluate_reply_to_records(trainer.evaluate(asked))
    )


@app.train("evaluated")
def evaluate_and_train(message: Message, context: Context) -> Message:
    """Answer two questions that came in one message; a refusal of one leaves the other's answer as it is."""

    def both(trainer: AnyTrainer, asked: Request) -> RecordDict:
        alone = replace(asked, evaluates=0)
        return wire_records.both_to_records(
            {
                "evaluation": _or_refusal(
                    lambda: wire_records.evaluate_reply_to_records(
                        trainer.evaluate(replace(alone, round=asked.evaluates))
                    )
                ),
                "training": _or_refusal(lambda: wire_records.train_reply_to_records(trainer.train(alone))),
            }
        )

    return _answer(message, context, both)


def _or_refusal(ask: Callable[[], RecordDict]) -> RecordDict | str:
    try:
        return ask()
    except Exception as error:
        return str(as_refusal(error))


def _answer(message: Message, context: Context, ask: Callable[[AnyTrainer, Request], RecordDict]) -> Message:
    """Flower sends the text of an exception to the coordinator; so none may get that far."""
    try:
        asked = wire_records.request_from_records(message.content)
        return Message(ask(connect(context.node_config), asked), reply_to=message)
    except Exception as error:
        return Message(Error(REFUSED, str(as_refusal(error))), reply_to=message)

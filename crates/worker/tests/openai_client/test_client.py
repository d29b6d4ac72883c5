"""Exercises a running worker with OpenAI's own Python client.

Environment: LAMPLIGHTER_BASE_URL (for example http://127.0.0.1:8080/v1) and LAMPLIGHTER_MODEL.
Prints "openai client: N checks passed" and exits 0, or exits 1 at the first check that fails.
"""

import os
import sys

import openai

checks = 0


def check(what: str, holds: bool) -> None:
    global checks
    if not holds:
        sys.exit(f"openai client: failed: {what}")
    checks += 1


def check_raises(what: str, expected: type[openai.APIStatusError], call) -> None:
    try:
        call()
    except expected as error:
        check(f"{what}: has a code", bool(error.code))
        check(f"{what}: has a type", error.type == "invalid_request_error")
    except openai.APIError as error:
        sys.exit(f"openai client: failed: {what}: {error!r} instead of {expected.__name__}")
    else:
        sys.exit(f"openai client: failed: {what}: no error")


def main() -> None:
    model = os.environ["LAMPLIGHTER_MODEL"]
    client = openai.OpenAI(
        base_url=os.environ["LAMPLIGHTER_BASE_URL"],
        api_key="unused",
        timeout=30,
        max_retries=0,
    )
    create = client.embeddings.create

    one = create(model=model, input="a lamp")
    check("a single text gives one vector", len(one.data) == 1)
    check("the vector has numbers", len(one.data[0].embedding) > 0)
    check("tokens are counted", 0 < one.usage.prompt_tokens == one.usage.total_tokens)
    check("the answering version is named", one.model.split(":")[0] == model.split(":")[0])

    texts = ["a lamp", "the river", "winter light on stone"]
    several = create(model=model, input=texts)
    check("a list gives a vector each", len(several.data) == len(texts))
    check("vectors are in order", [entry.index for entry in several.data] == [0, 1, 2])

    # Without encoding_format the client asks for base64 and decodes it.
    floats = create(model=model, input=texts, encoding_format="float")
    for index in range(len(texts)):
        decoded, plain = several.data[index].embedding, floats.data[index].embedding
        check("both encodings have one length", len(decoded) == len(plain))
        near = all(abs(a - b) <= 1e-5 for a, b in zip(decoded, plain))
        check("base64 and float hold the same numbers", near)
    lone = zip(one.data[0].embedding, several.data[0].embedding)
    check("a text's vector does not depend on its company", all(abs(a - b) < 1e-4 for a, b in lone))

    dimensions = len(one.data[0].embedding)
    same = create(model=model, input="a lamp", dimensions=dimensions)
    check("the model's own dimension is accepted", len(same.data[0].embedding) == dimensions)

    names = [entry.id for entry in client.models.list()]
    check("the model is listed", model in names)
    check("the model is found by its name", client.models.retrieve(model).id == model)

    missing = "no-such-model"
    check_raises(
        "an unknown model", openai.NotFoundError, lambda: create(model=missing, input="a")
    )
    check_raises(
        "an unknown model's route", openai.NotFoundError, lambda: client.models.retrieve(missing)
    )
    check_raises("an empty text", openai.BadRequestError, lambda: create(model=model, input=""))
    check_raises("an empty list", openai.BadRequestError, lambda: create(model=model, input=[]))
    check_raises(
        "another dimension",
        openai.BadRequestError,
        lambda: create(model=model, input="a", dimensions=dimensions + 1),
    )
    print(f"openai client: {checks} checks passed")


if __name__ == "__main__":
    main()

"""`--agents`: which agents of a population a command is about."""

from epo_lightning.limits import Mistake

ALL = "all"


def agent_numbers(text: str, instead: str = "") -> list[int]:
    """The numbers in `0,1,5`.

    Args:
        text: What was given.
        instead: What might have been given, too, for the message.

    Raises:
        Mistake: When it is something else.
    """
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise Mistake(
            f"--agents must be {instead}numbers with commas between them, such as 0,1,5; got {text}"
        ) from None


def roster(text: str, count: int) -> tuple[int, ...]:
    """The agents that `all` or `0,1,5` names, each once, of a population of `count`.

    Raises:
        Mistake: When there is no population, there is no such agent, or one is named twice.
    """
    if count < 2:
        raise Mistake("--agents: there is one policy, which is evaluated anyway: leave --agents out")
    if text == ALL:
        return tuple(range(count))
    numbers = agent_numbers(text, f"{ALL}, or ")
    for place, number in enumerate(numbers):
        if not 0 <= number < count:
            raise Mistake(f"--agents: there is no agent {number}; they are 0 to {count - 1}")
        if number in numbers[:place]:
            raise Mistake(f"--agents: {number} is named twice; leave one out")
    return tuple(numbers)

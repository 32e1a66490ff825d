"""What two models predict, in all the ways that have led an engine astray."""

from fractions import Fraction

from tests.exactness.enumeration import Scenario, random_model

POSITIVE = (1, 2, 3, 5, 7)
WITH_ZEROS = (0, 0, 1, 2, 5)
ONE_HOT = (0,)


def scenario(name: str, target: tuple[int, ...], draft: tuple[int, ...], size: int) -> Scenario:
    return Scenario(random_model(f"target {name}", target), random_model(name, draft), size)


SCENARIOS = {
    f"{name}, model {seed}": scenario(f"{name} {seed}", target, draft, support_size)
    for seed in range(4)
    for name, target, draft, support_size in [
        ("q whole", POSITIVE, POSITIVE, 3),
        ("q truncated to two", POSITIVE, POSITIVE, 2),
        ("q truncated to one", POSITIVE, POSITIVE, 1),
        ("zeros in p", WITH_ZEROS, POSITIVE, 2),
        ("zeros in p and q", WITH_ZEROS, WITH_ZEROS, 2),
        ("zeros in q, whole", POSITIVE, WITH_ZEROS, 3),
        ("temperature 0, q random", ONE_HOT, POSITIVE, 2),
        ("temperature 0, q one-hot", ONE_HOT, ONE_HOT, 1),
        ("temperature 0, q one-hot, more listed", ONE_HOT, ONE_HOT, 2),
    ]
}
EQUAL = random_model("both", POSITIVE)
SCENARIOS |= {
    "q equal to p": Scenario(EQUAL, EQUAL, 3),
    "q equal to p, truncated": Scenario(EQUAL, EQUAL, 2),
}
# Room for a random q and for two tokens outside its support.
SCENARIOS |= {
    f"vocabulary of four, model {seed}": Scenario(
        random_model(f"target {seed}", POSITIVE, 4),
        random_model(f"draft {seed}", POSITIVE, 4),
        support_size=2,
        num_speculative_tokens=2,
    )
    for seed in range(4)
}

WHOLE, TRUNCATED = SCENARIOS["q whole, model 0"], SCENARIOS["q truncated to two, model 0"]
# q puts most of its mass on one token, so that the residual has several.
PEAKED = Scenario(random_model("flat", (3, 4, 5)), random_model("peaked", (1, 1, 20)), 3)
WIDE = SCENARIOS["vocabulary of four, model 0"]
# Only token 0 is ever rejected, and then the draft's noise lay in [0, 1/2).
LOPSIDED = Scenario(
    target=lambda prefix: (Fraction(0), Fraction(3, 4), Fraction(1, 4)),
    draft=lambda prefix: (Fraction(1, 2), Fraction(1, 2), Fraction(0)),
    support_size=3,
)

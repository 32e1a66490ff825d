"""What can happen to bytes."""

import random


def mutated(value: bytes, chance: random.Random) -> bytes:
    """`value` with a bit flipped, a piece cut out or put in, or bytes exchanged."""
    place = chance.randrange(len(value))
    match chance.randrange(5):
        case 0:
            flipped = value[place] ^ 1 << chance.randrange(8)
            return value[:place] + bytes([flipped]) + value[place + 1 :]
        case 1:
            return value[:place]
        case 2:
            return value[:place] + value[place + chance.randint(1, 9) :]
        case 3:
            return value[:place] + chance.randbytes(chance.randint(1, 9)) + value[place:]
        case _:
            other = chance.randrange(len(value))
            swapped = bytearray(value)
            swapped[place], swapped[other] = swapped[other], swapped[place]
            return bytes(swapped)

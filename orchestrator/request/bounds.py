"""How large a request may be, told from counts and bytes alone, before anything is made of it.

A text is refused here by its bytes, whatever the tokenizer. For some tokenizers its length also
bounds its tokens more closely (`forethought.models.text.text_length`); the plan asks them.
"""

from dataclasses import dataclass

from forethought.errors import InvalidArgumentError
from forethought.v1 import generation_pb2 as pb

MAX_BYTES_PER_TOKEN = 16
"""Bytes of text for each token of the model's length. Texts of any language have fewer than 12 a
token on average; long runs of spaces may have more."""

MAX_MESSAGES = 2048
"""Of one conversation: a chat template is a program, and runs for each."""

MAX_DETOKENIZED = 2**16
"""Token ids that any deployment turns into text at once, in some hundredths of a second."""

MAX_OTHER_BYTES = 2**16
"""Of a request besides its prompt: parameters and names."""

MESSAGE_BYTES = 64
"""What a chat template makes of a message without content, more or less."""


def work_bytes(request: pb.GenerateRequest | pb.TokenizeRequest) -> int:
    """What the work on a request grows with."""
    return request.ByteSize() + MESSAGE_BYTES * len(request.conversation.messages)


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """What a model of `max_model_len` tokens may be asked."""

    max_model_len: int

    @property
    def max_message_bytes(self) -> int:
        """Of a request with the longest text or the most token ids that are taken, of up to three
        bytes each, the longest prediction, and all besides."""
        num_bytes = max(self._max_bytes, 3 * MAX_DETOKENIZED, 3 * self.max_model_len)
        return num_bytes + self._max_bytes + MAX_OTHER_BYTES

    def check_prompt(self, request: pb.GenerateRequest) -> None:
        """Refuses a prompt of any kind, or a prediction, that is too large.

        Raises:
            InvalidArgumentError: names the one that is.
        """
        self.check_text("params.prediction", request.params.prediction)
        match request.WhichOneof("prompt"):
            case "text":
                self.check_text("prompt.text", request.text)
            case "token_ids":
                token_ids = request.token_ids.token_ids
                self._check_token_ids("prompt.token_ids", len(token_ids), self.max_model_len)
            case "conversation":
                self.check_conversation("prompt.conversation", request.conversation)
            case "follow_up":
                self.check_conversation("prompt.follow_up", request.follow_up.conversation)

    def check_input(self, request: pb.TokenizeRequest) -> None:
        """Refuses a text or conversation that is too large. Raises InvalidArgumentError."""
        match request.WhichOneof("input"):
            case "text":
                self.check_text("text", request.text)
            case "conversation":
                self.check_conversation("conversation", request.conversation)

    def check_text(self, field: str, text: str) -> None:
        """Refuses a text of too many bytes. Raises InvalidArgumentError."""
        num_chars = len(text)
        # Most texts are shorter in the longest encoding, and need not be encoded.
        if 4 * num_chars > self._max_bytes:
            self._check_bytes(field, len(text.encode(errors="surrogatepass")))

    def check_conversation(self, field: str, conversation: pb.Conversation) -> None:
        """Refuses too many messages, or too many bytes. Raises InvalidArgumentError."""
        num_messages = len(conversation.messages)
        if num_messages > MAX_MESSAGES:
            raise InvalidArgumentError(
                {field: f"has {num_messages} messages, a conversation has {MAX_MESSAGES} at most"}
            )
        self._check_bytes(field, conversation.ByteSize())

    def check_detokenize(self, request: pb.DetokenizeRequest) -> None:
        """Refuses too many token ids. Raises InvalidArgumentError."""
        most = max(MAX_DETOKENIZED, self.max_model_len)
        self._check_token_ids("token_ids", len(request.token_ids), most)

    @property
    def _max_bytes(self) -> int:
        return MAX_BYTES_PER_TOKEN * self.max_model_len

    def _check_bytes(self, field: str, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise InvalidArgumentError(
                {
                    field: f"has {num_bytes} bytes, the model takes at most {self._max_bytes}: "
                    f"{MAX_BYTES_PER_TOKEN} for each of its {self.max_model_len} tokens"
                }
            )

    @staticmethod
    def _check_token_ids(field: str, num_token_ids: int, most: int) -> None:
        if num_token_ids > most:
            raise InvalidArgumentError(
                {field: f"has {num_token_ids} tokens, {most} are taken at most"}
            )

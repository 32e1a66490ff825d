"""What was said, and how to go on with it.

A conversation whose session is stored goes on from the session, so that the target has most of it
computed. Where that cannot be, it goes on from its texts, as a session of its own: without a store,
after an answer that was broken off, and when the session is gone.
"""

from dataclasses import dataclass, field

from forethought.errors import ForethoughtError
from forethought.generation import (
    ChatMessage,
    Finished,
    FollowUp,
    GenerationEvent,
    GenerationParams,
    GenerationRequest,
    Resume,
    Started,
    Token,
)

_SESSION_IS_OF_NO_USE = frozenset(
    {
        "MODEL_MISMATCH",
        "NO_STORE",
        "SESSION_CORRUPT",
        "SESSION_INCOMPLETE",
        "SESSION_IN_USE",
        "SESSION_NOT_FOUND",
        "SESSION_UNFINISHED",
        "STORE_UNAVAILABLE",
    }
)


@dataclass
class Dialogue:
    """A conversation, turn by turn."""

    params: GenerationParams = field(default_factory=GenerationParams)
    tenant: str = ""
    system: str | None = None
    session_id: str = ""  # that the next turn goes on from; empty: from the texts
    include_steps: bool = False
    messages: list[ChatMessage] = field(default_factory=list)  # without the system's
    is_whole: bool = True  # whether `messages` holds all that was said
    _answer: list[str] = field(default_factory=list)
    _num_received: int = 0  # tokens of the answer
    _broken_off: str = ""  # session of an answer that did not come to its end

    @property
    def must_resume(self) -> bool:
        """Whether only the session knows what was said, and its last answer is not finished."""
        return not (self.is_whole or self.session_id)

    def ask(self, text: str) -> GenerationRequest:
        """The request for an answer to the user. Only where nothing must be resumed."""
        message = ChatMessage("user", text)
        self._begin_answer()
        if self.messages and self.messages[-1].role == "user":
            self.messages.pop()  # it got no answer
        self._broken_off = ""
        self.messages.append(message)
        if self.session_id:
            return self._request(FollowUp(self.session_id, (message,)))
        return self._request(self.all_messages)

    def ask_again(self, error: ForethoughtError) -> GenerationRequest | None:
        """The same from the texts, where `error` says that the session is of no use; else None."""
        if not (self.session_id and self.is_whole and error.reason in _SESSION_IS_OF_NO_USE):
            return None
        self.session_id = ""
        return self._request(self.all_messages)

    def resume(self) -> GenerationRequest | None:
        """The request for the rest of an answer that was broken off; None where there is none."""
        if not self._broken_off:
            return None
        if self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()  # it comes back with its end
        rest = Resume(self._broken_off, self._num_received)
        return GenerationRequest(rest, tenant=self.tenant)

    def adopt(self, session_id: str) -> GenerationRequest:
        """The request for all of a stored session's last answer, whose conversation goes on."""
        self.restart()
        self.is_whole = False
        self._broken_off = session_id
        return GenerationRequest(Resume(session_id), tenant=self.tenant)

    def take(self, event: GenerationEvent) -> None:
        """Takes note of what came."""
        match event:
            case Started():
                self._broken_off = event.session_id if event.is_stored else ""
            case Token():
                self._answer.append(event.text)
                self._num_received = event.index + 1
            case Finished():
                self.session_id, self._broken_off = self._broken_off, ""

    def end_answer(self) -> None:
        """The answer is over, complete or not. A question without any answer was not asked."""
        text = "".join(self._answer)
        if text or self._num_received:
            self.messages.append(ChatMessage("assistant", text))
        elif not self._broken_off and self.messages and self.messages[-1].role == "user":
            self.messages.pop()
        if self._broken_off:
            self.session_id = ""

    def restart(self) -> None:
        """Forgets what was said. The system message and the parameters stay."""
        self.messages, self.session_id, self._broken_off = [], "", ""
        self.is_whole = True
        self._begin_answer()

    def instruct(self, system: str | None) -> None:
        """Another system message, from the next turn on."""
        self.system, self.session_id = system, ""

    @property
    def all_messages(self) -> tuple[ChatMessage, ...]:
        """What was said, with the system message before it."""
        system = () if self.system is None else (ChatMessage("system", self.system),)
        return (*system, *self.messages)

    def _begin_answer(self) -> None:
        self._answer, self._num_received = [], 0

    def _request(self, prompt: FollowUp | tuple[ChatMessage, ...]) -> GenerationRequest:
        return GenerationRequest(
            prompt, self.params, include_steps=self.include_steps, tenant=self.tenant
        )

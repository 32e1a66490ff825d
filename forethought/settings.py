"""Settings of a process: command line over environment over TOML file over defaults.

Each tier derives its own class and prefix, so that `--listen` of the target is also
`FORETHOUGHT_TARGET_LISTEN` and `listen` under `[target]` in the file that `FORETHOUGHT_CONFIG`
names. Unknown or malformed values are refused at start, in one line each.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

import structlog
from pydantic import (
    ByteSize,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliApp,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from forethought.addresses import (
    DEFAULT_PORT,
    describe_problem,
    is_for_grpc,
    is_loopback,
    split_address,
)
from forethought.configuration.command_line import command_line_of
from forethought.configuration.complaints import Origin, complain, complain_of_command_line
from forethought.configuration.config_file import SECTIONS, ConfigFileError, read_config_file
from forethought.configuration.removed import removed_variables
from forethought.configuration.sizes import Size
from forethought.configuration.store_settings import StoreSettings, shows_password
from forethought.configuration.texts import Texts
from forethought.configuration.tls_settings import TlsSettings
from forethought.configuration.variables import (
    CONFIG_VARIABLE,
    complain_of_variables,
    env_prefix,
    without_service_links,
)
from forethought.errors import InvalidArgumentError
from forethought.observability.series import PREFIX
from forethought.observability.traces import start_traces
from forethought.telemetry import LogFormat, configure_logging
from forethought.tier import (
    DEFAULT_MAX_SPECULATIVE_TOKENS,
    LARGEST_MAX_SPECULATIVE_TOKENS,
    MAX_NUM_THREADS,
    SESSION_IDLE_TIMEOUT_S,
)

_log = structlog.get_logger(__name__)

_REFUSED = 2  # exit code


AdminAddress = Annotated[
    str,
    Field(
        description="host:port of /livez, /readyz and /metrics over HTTP; port 0 takes a free one; "
        "empty: there is no such port"
    ),
]


class ProcessSettings(TlsSettings, BaseSettings):
    """What every tier's process can be told."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_exit_on_error=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    section: ClassVar[str]
    """Table of the TOML file, and the middle of the environment variables' names."""

    program: ClassVar[str]
    """Name of the program in its help."""

    http_addresses: ClassVar[frozenset[str]] = frozenset({"admin_listen"})
    """Settings that say where HTTP is spoken."""
    cures: ClassVar[str] = "--tls-cert and --tls-key"
    """What makes it safe to listen where other machines are."""

    listen: str = Field(description="host:port to listen on; port 0 takes a free one")
    insecure: bool = Field(
        default=False,
        description="listen where other machines reach it, in plain text and for anybody: for "
        "networks that are trusted, or that encrypt by themselves",
    )
    reflection: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether gRPC tells callers which services and messages there are; auto does "
        "so where only this machine calls",
    )
    admin_listen: AdminAddress
    metrics_prefix: Literal["forethought", "vllm"] = Field(
        PREFIX,
        description="of the metrics that vLLM has too; all others begin with forethought",
    )
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="how log lines look")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    drain_grace_s: float = Field(
        30.0, ge=0, description="seconds that running calls get to finish after SIGTERM"
    )

    @field_validator("listen", "admin_listen")
    @classmethod
    def _refuse_to_listen_nowhere(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.field_name == "admin_listen":
            return value
        default = cls.model_fields[info.field_name or ""].default
        port = split_address(default)[1] if isinstance(default, str) else DEFAULT_PORT
        if is_for_grpc(value) and info.field_name in cls.http_addresses:
            raise ValueError("is an address of gRPC: HTTP wants HOST:PORT, as in 127.0.0.1:8000")
        if problem := describe_problem(value, min_port=0, default_port=port):
            raise ValueError(problem)
        return value

    @field_validator("draft", "orchestrator", "target", check_fields=False)
    @classmethod
    def _refuse_unsound_addresses(cls, value: Texts, info: ValidationInfo) -> Texts:
        default = cls.model_fields[str(info.field_name)].default
        _, port = split_address(default[0])
        for address in value:
            if problem := describe_problem(address, default_port=port):
                raise ValueError(f"{address} {problem}" if len(value) > 1 else problem)
        return value

    @property
    def is_exposed(self) -> bool:
        """Whether other machines reach it in plain text, whoever they are."""
        return self.tls_cert is None and not is_loopback(self.listen)

    @property
    def has_reflection(self) -> bool:
        """Whether gRPC's reflection answers."""
        return self.reflection == "on" or (self.reflection == "auto" and is_loopback(self.listen))

    @model_validator(mode="after")
    def _refuse_exposure(self) -> Self:
        if self.is_exposed and not self.insecure:
            raise ValueError(
                f"--listen {self.listen}: other machines reach it, and it speaks plain text: give "
                f"{self.cures}, or --insecure on a network that is trusted"
            )
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "section" in cls.__dict__:
            cls.model_config["env_prefix"] = env_prefix(cls.section)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = without_service_links(env_settings.env_vars)
        in_file = InitSettingsSource(settings_cls, init_kwargs=_read_section(cls.section))
        return init_settings, env_settings, in_file

    @classmethod
    def from_command_line(cls, arguments: list[str] | None = None) -> Self:
        """Reads all sources, starts logging, and logs the result once.

        Raises:
            SystemExit: a value is unknown or malformed; stderr says which.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        settings = cls._parse(arguments)
        configure_logging(settings.log_format, settings.log_level)
        try:
            start_traces(cls.section)
        except InvalidArgumentError as error:
            _refuse(cls.section, [error.message])
        if settings.tls_cert is None and not is_loopback(settings.listen):
            whoever = "whoever reaches it may use it" if settings.is_exposed else "keys are needed"
            _log.warning(
                "listens_in_plain_text",
                address=settings.listen,
                detail=f"{whoever}, and who is on the way reads what is said",
            )
        if shows_password(arguments):
            _log.warning(
                "password_on_command_line",
                detail="everybody on this machine can read it there: give it by the variable "
                f"{env_prefix(cls.section)}REDIS_URL, --redis-url-file or --redis-password-file",
            )
        _log.info("settings", section=cls.section, **settings.model_dump(mode="json"))
        return settings

    @classmethod
    def _parse(cls, arguments: list[str]) -> Self:
        prefix = env_prefix(cls.section)
        others = [env_prefix(section) for section in SECTIONS if section != cls.section]
        if removed := list(removed_variables(cls.section, os.environ)):
            _refuse(cls.section, removed)
        if complaints := complain_of_variables(os.environ, prefix, cls.model_fields, others):
            _refuse(cls.section, complaints)
        path = os.environ.get(CONFIG_VARIABLE)
        try:
            origin = Origin(
                cls.section,
                prefix,
                cls.model_fields,
                arguments,
                os.environ,
                Path(path) if path else None,
                _read_section(cls.section),
            )
        except ConfigFileError as error:
            _refuse(cls.section, [f"{CONFIG_VARIABLE}: {error}"])
        try:
            source = command_line_of(cls, cls.program)
            return CliApp.run(cls, cli_args=arguments, cli_settings_source=source)
        except ValidationError as error:
            _refuse(cls.section, [complain(problem, origin) for problem in error.errors()])
        except SettingsError as error:
            _refuse(cls.section, [complain_of_command_line(str(error), origin)])


def _read_section(section: str) -> dict[str, Any]:
    """A process's section of the file that the environment names. Raises ConfigFileError."""
    path = os.environ.get(CONFIG_VARIABLE)
    return read_config_file(Path(path)).get(section, {}) if path else {}


def _refuse(section: str, complaints: Iterable[str]) -> NoReturn:
    for complaint in dict.fromkeys(complaints):
        sys.stderr.write(f"{section}: {complaint}\n")
    raise SystemExit(_REFUSED)


class EngineSettings(StoreSettings, ProcessSettings):
    """What a tier that runs a model can be told."""

    model: str = Field(
        description="local folder, hub id, .gguf file, or package:NAME for an installed package"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"] = Field(
        "auto", description="number format of the weights; int8 and int4 are for CPUs"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    num_threads: int = Field(
        0,
        ge=0,
        le=MAX_NUM_THREADS,
        description="CPU threads; 0 is the library's choice, and one for a feature draft",
    )
    shared_cores: Path | None = Field(
        None,
        description="file that is given to all tiers on the same CPU cores, so that they compute "
        "one at a time; made if there is none",
    )
    max_model_len: int = Field(
        0, ge=0, description="longest sequence in tokens; 0 is the model's own limit"
    )
    max_num_speculative_tokens: int = Field(
        DEFAULT_MAX_SPECULATIVE_TOKENS,
        ge=1,
        le=LARGEST_MAX_SPECULATIVE_TOKENS,
        description="most tokens drafted or verified in one round",
    )
    max_sessions: int = Field(256, ge=1, description="most sessions open at a time")
    session_idle_timeout_s: float = Field(
        SESSION_IDLE_TIMEOUT_S,
        gt=0,
        description="seconds after which a session ends that asks for nothing, or whose answers "
        "nobody reads; who has it opens it again",
    )
    max_waiting: int = Field(
        256, ge=1, description="most sessions that wait for memory; beyond that none is taken in"
    )
    kv_memory: Size = Field(
        ByteSize(0),
        ge=0,
        description="memory for keys and values, such as 512MiB; 0 is what the device has room for",
    )
    max_tokens_per_pass: int = Field(
        512, ge=16, description="most tokens in a forward pass; long prompts are taken in chunks"
    )
    max_prefill_beside_rounds: int = Field(
        0,
        ge=0,
        description="most tokens of prompts in a pass that answers rounds too, so that running "
        "sessions keep their pace; 0 is 64 on a CPU and all that fit on a GPU",
    )
    kv_store: Literal["off", "read-only", "read-write"] = Field(
        "read-write",
        description="what is done with keys and values there: nothing; sessions begin with what "
        "others have written; or full blocks are written too. Without redis_url nothing",
    )
    kv_store_ttl_s: float = Field(
        3600.0, ge=1, description="seconds after which a block goes that nobody asked for"
    )
    kv_store_queue: Size = Field(
        ByteSize(64 * 2**20),
        ge=0,
        description="memory for blocks that wait to be written; what comes beyond is dropped",
    )
    kv_store_max_value: Size = Field(
        ByteSize(16 * 2**20), ge=0, description="larger blocks are neither written nor read"
    )
    kv_store_memory_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="part of the memory of a server without eviction beyond which no blocks are "
        "written",
    )

    @field_validator("device")
    @classmethod
    def _refuse_unknown_devices(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("must be auto, cpu, cuda, or cuda:N for the GPU with number N")
        return value

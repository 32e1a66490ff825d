"""Settings of a process: command line over environment over TOML file over defaults.

Each tier derives its own class and prefix, so that `--listen` of the target is also
`FORETHOUGHT_TARGET_LISTEN` and `listen` under `[target]` in the file that `FORETHOUGHT_CONFIG`
names. Unknown or malformed values are refused at start.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import structlog
from pydantic import ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from forethought.telemetry import LogFormat, configure_logging
from forethought.tier import DEFAULT_MAX_SPECULATIVE_TOKENS, LARGEST_MAX_SPECULATIVE_TOKENS

_log = structlog.get_logger(__name__)

CONFIG_VARIABLE = "FORETHOUGHT_CONFIG"


class ProcessSettings(BaseSettings):
    """What every tier's process can be told."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    section: ClassVar[str]
    """Table of the TOML file, and the middle of the environment variables' names."""

    program: ClassVar[str]
    """Name of the program in its help."""

    listen: str = Field(description="host:port to listen on; port 0 takes a free one")
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="how log lines look")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="least level that is logged"
    )
    drain_grace_s: float = Field(
        30.0, ge=0, description="seconds that running calls get to finish after SIGTERM"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "section" in cls.__dict__:
            cls.model_config["env_prefix"] = f"FORETHOUGHT_{cls.section.upper()}_"
            cls.model_config["cli_prog_name"] = cls.program

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, init_kwargs=cls._read_config_file()),
        )

    @classmethod
    def _read_config_file(cls) -> dict[str, Any]:
        """This process's table of the TOML file; the others belong to other tiers."""
        path = os.environ.get(CONFIG_VARIABLE)
        if not path:
            return {}
        try:
            section: dict[str, Any] = tomllib.loads(Path(path).read_text()).get(cls.section, {})
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SystemExit(f"{CONFIG_VARIABLE}: {path}: {error}") from error
        return section

    @classmethod
    def _refuse_unknown_variables(cls) -> None:
        """pydantic ignores variables it does not know; a typing error should not pass unseen."""
        prefix = cls.model_config.get("env_prefix", "")
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        for name in os.environ:
            if name.startswith(prefix) and name not in known:
                raise SystemExit(f"{cls.section}: unknown environment variable {name}")

    @classmethod
    def from_command_line(cls, arguments: list[str] | None = None) -> Self:
        """Reads all sources, starts logging, and logs the result once.

        Raises:
            SystemExit: a value is unknown or malformed; stderr says which.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        cls._refuse_unknown_variables()
        try:
            settings = CliApp.run(cls, cli_args=arguments)
        except ValidationError as error:
            for problem in error.errors():
                name = ".".join(str(part) for part in problem["loc"])
                sys.stderr.write(f"{cls.section}: {name}: {problem['msg']}\n")
            raise SystemExit(2) from error
        configure_logging(settings.log_format, settings.log_level)
        _log.info("settings", section=cls.section, **settings.model_dump(mode="json"))
        return settings


class EngineSettings(ProcessSettings):
    """What a tier that runs a model can be told."""

    model: str = Field(
        description="local folder, hub id, .gguf file, or package:NAME for an installed package"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"] = Field(
        "auto", description="number format of the weights; int8 and int4 are for CPUs"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    num_threads: int = Field(
        0, ge=0, description="CPU threads; 0 is the library's choice, and one for a feature draft"
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
    max_waiting: int = Field(
        256, ge=1, description="most sessions that wait for memory; beyond that none is taken in"
    )
    kv_memory: ByteSize = Field(
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
    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey that keeps keys and values beyond this process: "
        "redis://user:password@host:port/db, or rediss:// for TLS",
    )
    kv_store: Literal["off", "read-only", "read-write"] = Field(
        "read-write",
        description="what is done with keys and values there: nothing; sessions begin with what "
        "others have written; or full blocks are written too. Without redis_url nothing",
    )
    kv_store_ttl_s: float = Field(
        3600.0, ge=1, description="seconds after which a block goes that nobody asked for"
    )
    kv_store_queue: ByteSize = Field(
        ByteSize(64 * 2**20),
        ge=0,
        description="memory for blocks that wait to be written; what comes beyond is dropped",
    )
    kv_store_max_value: ByteSize = Field(
        ByteSize(16 * 2**20), ge=0, description="larger blocks are neither written nor read"
    )
    kv_store_memory_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="part of the memory of a server without eviction beyond which no blocks are "
        "written",
    )

"""Every setting of Tallystick, read once and strictly.

Values come from the environment. Below it lies `<data dir>/house.env`, which the embedded house
writes at its first start; production has no such file and names everything in the environment.
Any secret NAME may be given as NAME_FILE: the path of a file that holds it.
"""

import os
from pathlib import Path
from typing import Any

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("TALLYSTICK_DATA_DIR") or BASE_DIR / ".tallystick").resolve()

env = environ.FileAwareEnv()
if (DATA_DIR / "house.env").is_file():
    environ.Env.read_env(DATA_DIR / "house.env", overwrite=False)

# --- the house -----------------------------------------------------------------------------------
EMBEDDED: bool = env.bool("TALLYSTICK_EMBEDDED", default=True)
VERSION = "0.1.0"
SECRET_KEY: str = env.str("SECRET_KEY", default="")
DEBUG: bool = env.bool("DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"] if EMBEDDED else [])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")  # who has it may read /metrics; empty: nobody may
PUBLIC_URL: str = env.str("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")

# --- evidence ------------------------------------------------------------------------------------
KEYS_DIR = Path(env.str("TALLYSTICK_KEYS_DIR", default=str(DATA_DIR / "keys")))
STORE_DIR = Path(env.str("STORE_DIR", default=str(DATA_DIR / "store")))
STORE_MAX_BYTES: int = env.int("STORE_MAX_BYTES", default=512 * 1024**2)  # the largest artifact
STORE_SWEEP_AFTER_S: int = env.int("STORE_SWEEP_AFTER_S", default=86_400)  # age at which leftovers of crashed writes go
TLOG_DIR = Path(env.str("TLOG_DIR", default=str(DATA_DIR / "tlog")))
LOG_ORIGIN: str = env.str("LOG_ORIGIN", default="")  # the log's name for good, independent of host and port
CHECKPOINT_SECONDS: float = env.float("CHECKPOINT_SECONDS", default=1.0)  # at most one checkpoint in this time
PROMISE_SECONDS: int = env.int("PROMISE_SECONDS", default=3600)  # a receipt is in the log by then, or the hub lied
WITNESSES: list[str] = env.list("WITNESSES", default=[])  # who is asked to cosign checkpoints: <vkey>@<url>
WITNESS_QUORUM: int = env.int(
    "WITNESS_QUORUM", default=0
)  # how many of them make a checkpoint final; 0: none is waited for
WITNESS_SECONDS: float = env.float("WITNESS_SECONDS", default=2.0 if EMBEDDED else 10.0)  # between cosignatures of one
C2PA_ORGANISATION: str = env.str("C2PA_ORGANISATION", default="Tallystick house")
C2PA_MAX_BYTES: int = env.int("C2PA_MAX_BYTES", default=128 * 1024**2)  # signing takes 2-3x this in memory

# --- the chain -----------------------------------------------------------------------------------
CHAIN_RPC_URL: str = env.str("CHAIN_RPC_URL", default="")  # empty: nothing is committed or minted, and pages say so
CHAIN_ID: int = env.int("CHAIN_ID", default=31337)
CHAIN_TIMEOUT_SECONDS: float = env.float("CHAIN_TIMEOUT_SECONDS", default=10.0)
REGISTER_ADDRESS: str = env.str("REGISTER_ADDRESS", default="").lower()
TOKEN_ADDRESS: str = env.str("TOKEN_ADDRESS", default="").lower()
MINTER_ADDRESS: str = env.str("MINTER_ADDRESS", default="").lower()
CONFIRMATIONS: int = env.int("CONFIRMATIONS", default=2 if EMBEDDED else 12)
ANCHOR_INTERVAL: int = env.int("ANCHOR_INTERVAL", default=2 if EMBEDDED else 3600)  # seconds between anchors
COMMIT_POLICY: str = env.str("COMMIT_POLICY", default="batch")  # batch: anchors alone; each: receipts of jobs too
COMMIT_GAS_DAILY: int = env.int("COMMIT_GAS_DAILY", default=30_000_000)  # a tenant's commits in a day; 0: no bound
EXPLORER_URL: str = env.str("EXPLORER_URL", default="").rstrip("/")
CHAIN_FEE_CAP_GWEI: int = env.int("CHAIN_FEE_CAP_GWEI", default=500)
CHAIN_FEE_BUMP_SECONDS: int = env.int("CHAIN_FEE_BUMP_SECONDS", default=60)
MINT_DEADLINE_DAYS: int = env.int("MINT_DEADLINE_DAYS", default=30)

# --- Numbers Protocol ----------------------------------------------------------------------------
NUMBERS_NETWORK: str = env.str("NUMBERS_NETWORK", default="off")  # or testnet, mainnet: commits cost money
NUMBERS_COMMIT: str = env.str("NUMBERS_COMMIT", default="api")  # api: through Capture; chain: by our own transactions
NUMBERS_ASSET: str = env.str("NUMBERS_ASSET", default="proof")  # proof: what the log shows; receipt: JobSubmitted
NUMBERS_EVENTS: list[str] = env.list("NUMBERS_EVENTS", default=[])  # empty: every move of a job
NUMBERS_DAILY_LIMIT: int = env.int("NUMBERS_DAILY_LIMIT", default=1_000)  # requests that cost, of one tenant in a day
NUMBERS_SETTLE_SECONDS: int = env.int("NUMBERS_SETTLE_SECONDS", default=900)  # what took effect shows within this time
NUMBERS_RPC_URL: str = env.str("NUMBERS_RPC_URL", default="")  # empty: the network's public node
NUMBERS_REGISTER_ADDRESS: str = env.str("NUMBERS_REGISTER_ADDRESS", default="").lower()  # empty: the network's own
CAPTURE_TOKEN: str = env.str("CAPTURE_TOKEN", default="")
CAPTURE_API_URL: str = env.str("CAPTURE_API_URL", default="https://api.numbersprotocol.io/api/v3").rstrip("/")
CAPTURE_COMMIT_URL: str = env.str(
    "CAPTURE_COMMIT_URL",
    default="https://us-central1-numbers-protocol-api.cloudfunctions.net/nit-commit-to-jade",
)
CAPTURE_HISTORY_URL: str = env.str(
    "CAPTURE_HISTORY_URL",
    default="https://e23hi68y55.execute-api.us-east-1.amazonaws.com/default/get-commits-storage-backend-jade-near",
)
CAPTURE_TREE_URL: str = env.str(
    "CAPTURE_TREE_URL",
    default="https://us-central1-numbers-protocol-api.cloudfunctions.net/get-full-asset-tree",
)
CAPTURE_TIMEOUT_SECONDS: float = env.float("CAPTURE_TIMEOUT_SECONDS", default=30.0)

# --- jobs ----------------------------------------------------------------------------------------
LEASE_SECONDS: int = env.int("LEASE_SECONDS", default=15)  # a silent worker loses its job after this
START_SECONDS: int = env.int("START_SECONDS", default=60)  # a scheduled job starts within this, or is offered again
MAX_ATTEMPTS: int = env.int("MAX_ATTEMPTS", default=3)
JOB_TTL_SECONDS: int = env.int("JOB_TTL_SECONDS", default=86_400)
QUEUE_LIMIT: int = env.int("QUEUE_LIMIT", default=1_000)  # unfinished jobs of one tenant
PROGRESS_RECEIPTS: int = env.int("PROGRESS_RECEIPTS", default=20)  # at most so many of one attempt go to the log
DEFAULT_MODEL: str = env.str("DEFAULT_MODEL", default="tiny-shapes")
RATE_LIMIT: str = env.str("RATE_LIMIT", default="600/min")  # requests of one API key

# --- doors ---------------------------------------------------------------------------------------
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # its other config would put a site of its own in our place; its templates come first
    "config.apps.TallystickAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "receipts",
    "provenance",
    "minting",
    "jobs",
    "config",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # files are served from where they lie: nothing is collected, so no STATIC_ROOT
AUTH_USER_MODEL = "jobs.User"
LOGIN_URL = "/admin/login/"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/tlog/"],
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],  # the console alone has a looser policy of its own: config/admin_site.py
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
    },
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- engines -------------------------------------------------------------------------------------
DATABASES: dict[str, Any] = {
    "default": env.db("DATABASE_URL", default="postgresql://tallystick_app@127.0.0.1/tallystick")
}
DATABASES["default"].setdefault("OPTIONS", {})
DATABASES["default"]["OPTIONS"]["connect_timeout"] = 5
# A statement that comes again is planned once for each connection: planning costs more than running most of ours.
# A pooler that hands connections on between transactions, and knows no prepared statements, needs it off.
_PREPARED: bool = env.bool("DATABASE_PREPARED", default=True)
DATABASES["default"]["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 2 if _PREPARED else None}
DATABASES["default"]["ATOMIC_REQUESTS"] = False
# A pool is for the threads of a web process; a Celery worker forks, and a pool does not survive that.
if env.bool("DATABASE_POOL", default=False):
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 10, "timeout": 10}
else:
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DATABASE_OWNER_URL: str = env.str("DATABASE_OWNER_URL", default="")  # who backs up and restores; else DATABASE_URL
DATABASE_APP_ROLE: str = env.str("DATABASE_APP_ROLE", default="tallystick_app")
REDIS_CACHE_URL: str = env.str("CACHE_URL", default="")
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_CACHE_URL,
        # It counts requests and no more: a request does not wait long for a cache that hangs.
        "OPTIONS": {"socket_connect_timeout": 0.3, "socket_timeout": 0.3},
    }
    if REDIS_CACHE_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", default="redis://127.0.0.1:6379/0")
CELERY_APP = "config.celery.app"  # imported by who sends, lazily: the web process starts without Celery
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- words and time ------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

# --- API -----------------------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "jobs.api.authentication.ApiKeyAuthentication",
        "jobs.api.authentication.ConsoleSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "jobs.api.pagination.Newest",
    "DEFAULT_THROTTLE_CLASSES": ["jobs.api.throttling.ByApiKey"],
    "DEFAULT_THROTTLE_RATES": {"api-key": RATE_LIMIT},
    "DEFAULT_PARSER_CLASSES": ["jobs.api.parsing.StrictJSONParser"],
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Tallystick",
    "DESCRIPTION": "Submit GPU work, follow it, and take away the evidence.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "PREPROCESSING_HOOKS": ["jobs.api.schema.documented"],
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Tallystick",
    "SITE_HEADER": "Tallystick",
    "SITE_SUBHEADER": "GPU work, with evidence",
    "SITE_URL": "/",
    "SITE_ICON": f"{STATIC_URL}tallystick/mark.svg",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}tallystick/mark.svg"}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [f"{STATIC_URL}tallystick/console.css"],
    "SCRIPTS": [f"{STATIC_URL}tallystick/console.js"],
    "BORDER_RADIUS": "7px",
    "COLORS": {
        "primary": {
            "50": "#f0f6fb",
            "100": "#dceaf5",
            "200": "#bfd8ec",
            "300": "#92bedf",
            "400": "#6aa6d4",
            "500": "#3b7fb6",
            "600": "#28659a",
            "700": "#22527d",
            "800": "#1f4668",
            "900": "#1d3b57",
            "950": "#14304a",
        },
        "base": {
            "50": "#fafaf8",
            "100": "#f4f4f1",
            "200": "#e7e6e1",
            "300": "#d6d4cd",
            "400": "#a8a59c",
            "500": "#716e66",
            "600": "#57544d",
            "700": "#44413b",
            "800": "#2c2b28",
            "900": "#1c1c1a",
            "950": "#10100f",
        },
    },
    "SIDEBAR": {
        "navigation": [
            {
                "items": [
                    {"title": "This morning", "icon": "wb_sunny", "link": "/admin/"},
                    {"title": "Jobs", "icon": "work_history", "link": "/admin/jobs/job/"},
                    {"title": "Attempts", "icon": "replay", "link": "/admin/jobs/attempt/"},
                    {"title": "Providers", "icon": "dns", "link": "/admin/jobs/provider/"},
                ]
            },
            {
                "title": "Evidence",
                "separator": True,
                "items": [
                    {"title": "Receipts", "icon": "receipt_long", "link": "/admin/receipts/receipt/"},
                    {"title": "Checkpoints", "icon": "verified", "link": "/admin/receipts/checkpoint/"},
                    {"title": "Witnesses' alarms", "icon": "crisis_alert", "link": "/admin/receipts/witnessalarm/"},
                    {"title": "Logs we witness", "icon": "visibility", "link": "/admin/receipts/witnessedlog/"},
                    {"title": "Misbehaviour of logs", "icon": "report", "link": "/admin/receipts/misbehaviour/"},
                    {"title": "Bundles", "icon": "inventory_2", "link": "/admin/receipts/bundle/"},
                    {"title": "Artifacts", "icon": "image", "link": "/admin/provenance/artifact/"},
                    {"title": "Credentials", "icon": "badge", "link": "/admin/provenance/credential/"},
                ],
            },
            {
                "title": "Chain and tokens",
                "separator": True,
                "items": [
                    {"title": "Transactions", "icon": "link", "link": "/admin/receipts/chaintransaction/"},
                    {"title": "Commits", "icon": "anchor", "link": "/admin/receipts/commit/"},
                    {"title": "Usage and mints", "icon": "toll", "link": "/admin/minting/usage/"},
                    {"title": "Senders", "icon": "outbox", "link": "/admin/receipts/senderstatus/"},
                    {"title": "Numbers Protocol", "icon": "public", "link": "/admin/receipts/numbersorder/"},
                ],
            },
            {
                "title": "The house",
                "separator": True,
                "items": [
                    {"title": "Keys", "icon": "key", "link": "/admin/receipts/publickey/"},
                    {"title": "Tenants", "icon": "apartment", "link": "/admin/receipts/tenant/"},
                    {"title": "API keys", "icon": "vpn_key", "link": "/admin/jobs/apikey/"},
                    {"title": "People", "icon": "group", "link": "/admin/jobs/user/", "operators": True},
                ],
            },
            {
                "title": "Reading",
                "separator": True,
                "items": [
                    {"title": "Threat model", "icon": "shield", "link": "/docs/threat-model"},
                    {"title": "API", "icon": "api", "link": "/api/v1/"},
                ],
            },
        ],
    },
}

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
